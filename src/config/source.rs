//! The files that a configuration is made of: read within a limit, remembered by name, and hashed by content.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// What was read, in this order: the configuration, then keys and secrets that it names.
#[derive(Clone, Default)]
pub(super) struct Sources {
    paths: Vec<PathBuf>,
    hash: Sha256,
}

/// The SHA-256 of everything a configuration was made of. Its files are hashed one behind the other; one that can't be
/// read counts as its error, so that this is a content too, which may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Sources {
    /// Reads a file of `limit` bytes at most. A longer one is an error, and so is a folder.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let read = read_limited(path, limit);
        self.paths.push(path.into());
        match &read {
            Ok(bytes) => self.hash.update(bytes),
            Err(error) => self.hash.update(error.to_string()),
        }
        read
    }

    /// The files' names, and the hash of them all.
    pub(super) fn finish(self) -> (Vec<PathBuf>, Fingerprint) {
        (self.paths, Fingerprint(self.hash.finalize().into()))
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("paths", &self.paths).finish_non_exhaustive()
    }
}

/// The largest file with a key or a secret, in bytes.
pub(super) const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret of text, without the line break at its file's end: for whoever needs it anew while the process runs.
pub fn read_secret_text(path: &Path) -> io::Result<String> {
    let bytes = without_line_break(read_limited(path, SECRET_BYTES_MAX)?);
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Editors end files with a line break, which belongs to no secret.
pub(super) fn without_line_break(mut bytes: Vec<u8>) -> Vec<u8> {
    for end in *b"\n\r" {
        bytes.pop_if(|last| *last == end);
    }
    bytes
}

/// The SHA-256 of these bytes, as hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that just fits.
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}
