//! The files of a configuration: read up to a limit, recorded by name, and hashed by content.

use std::fmt;
use std::fs::{File, FileType};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::CONFIG_BYTES_MAX;

/// The files in the order of reading: the configuration, then the keys and secrets that it names.
#[derive(Clone, Default)]
pub(super) struct Sources {
    paths: Vec<PathBuf>,
    hash: Sha256,
}

/// The SHA-256 of all files of a configuration, in sequence. A file that cannot be read contributes its error, so that
/// a later success changes the hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Sources {
    /// Reads a file of at most `limit` bytes. A longer one, and a directory, is an error.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let read = read_limited(path, limit);
        self.paths.push(path.into());
        match &read {
            Ok(bytes) => self.hash.update(bytes),
            Err(error) => self.hash.update(error.to_string()),
        }
        read
    }

    /// The names of the files, and the hash of all of them.
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

/// Reads a secret text, without the line break at the end of its file. Used to reread it at run time.
///
/// # Errors
///
/// The file cannot be read, is too long, or is not UTF-8.
pub fn read_secret_text(path: &Path) -> io::Result<String> {
    let bytes = without_line_break(read_limited(path, SECRET_BYTES_MAX)?);
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Editors end a file with a line break, which is not part of the secret.
pub(super) fn without_line_break(mut bytes: Vec<u8>) -> Vec<u8> {
    for end in *b"\n\r" {
        bytes.pop_if(|last| *last == end);
    }
    bytes
}

/// The SHA-256 of these bytes, in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How long a pipe (`--config <(command)`) may take until its end.
const PIPE_WAIT: Duration = Duration::from_secs(5);
const PIPE_LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Whether a library can read the path: a regular file, or a directory if allowed, and nothing that would block.
///
/// # Errors
///
/// The path does not exist, is not accessible, or is of another type.
pub fn check_file(path: &Path, takes_folder: bool) -> io::Result<()> {
    match std::fs::metadata(path)?.file_type() {
        kind if kind.is_file() => File::open(path).map(drop),
        kind if kind.is_dir() && takes_folder => std::fs::read_dir(path).map(drop),
        kind => Err(unfit(kind)),
    }
}

/// The current fingerprint of these files.
pub(crate) fn fingerprint(paths: &[PathBuf]) -> Fingerprint {
    let mut sources = Sources::default();
    for path in paths {
        // Regardless of the original limit: a longer file yields another error, and is examined again.
        let _ = sources.read(path, CONFIG_BYTES_MAX);
    }
    sources.finish().1
}

/// Reads a file, or a pipe for a limited time. Other file types are errors and never block.
fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Err(unfit(kind));
    }
    // The path may have been replaced meanwhile: opening a FIFO would block until it has a writer.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let deadline = Instant::now() + PIPE_WAIT;
    let mut bytes = Vec::new();
    // One byte more than the limit, to detect a longer file.
    let mut content = file.take(limit + 1);
    loop {
        match content.read_to_end(&mut bytes) {
            Ok(_) if bytes.is_empty() && kind.is_fifo() => return Err(unfit(kind)),
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                std::thread::sleep(PIPE_LOOK_AGAIN);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(unfit(kind)),
            Err(error) => return Err(error),
        }
    }
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

fn unfit(kind: FileType) -> io::Error {
    let (error, what) = match kind {
        kind if kind.is_dir() => (ErrorKind::IsADirectory, "it is a directory"),
        kind if kind.is_fifo() => (ErrorKind::TimedOut, "it is a pipe whose end did not come"),
        _ => (ErrorKind::InvalidInput, "it is not a file, but a device or socket"),
    };
    io::Error::new(error, what)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_that_is_no_file_is_an_error_and_never_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
        symlink(path("loop"), path("loop")).unwrap();
        std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let zero = Path::new("/dev/zero").to_owned();
        for path in [folder.path().to_owned(), path("fifo"), path("loop"), path("socket"), zero, path("absent")] {
            assert!(read_limited(&path, 10).is_err(), "{}", path.display());
            assert!(check_file(&path, false).is_err(), "{}", path.display());
        }
        assert!(check_file(folder.path(), true).is_ok());
        std::fs::write(path("long"), "12345678901").unwrap();
        assert_eq!(read_limited(&path("long"), 10).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read_limited(&path("long"), 11).unwrap().len(), 11);
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;
        let (reader, mut writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        let written = std::thread::spawn(move || writer.write_all(b"a: b"));
        assert_eq!(read_limited(&path, 10).unwrap(), b"a: b");
        written.join().unwrap().unwrap();
    }
}
