//! Records in.

pub mod decode;
