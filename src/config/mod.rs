//! Configuration in three forms: the file as written, compiled with every error reported, and the running snapshot.

pub mod snapshot;
