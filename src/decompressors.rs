//! Bounds the memory of a batch that librdkafka decompresses by gzip or LZ4. It bounds zstd itself, and Snappy expands
//! at most to 21 times.
//!
//! The linker redirects librdkafka's calls to these functions (`build.rs`). Beyond the limit they report invalid data:
//! the batch is then one that cannot be read, which is a gap.
#![allow(unsafe_code)] // The functions are C's.

use std::cell::Cell;
use std::ffi::{c_int, c_uint, c_ulong, c_void};

use sidestream::kafka::decompressed_bytes_max;

/// `Z_DATA_ERROR` of zlib.
const DATA_ERROR: c_int = -3;
/// `LZ4F_ERROR_GENERIC`, negated as in all results of LZ4F, and a bound of the other errors.
const GENERIC_ERROR: usize = usize::MAX;
const ERRORS_FROM: usize = usize::MAX - 100;

thread_local! {
    /// What the current LZ4 frame of this thread was decompressed into so far. librdkafka decompresses frame by frame.
    static FRAME_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// The beginning of zlib's `z_stream`.
#[repr(C)]
struct Stream {
    next_in: *const u8,
    avail_in: c_uint,
    total_in: c_ulong,
    next_out: *mut u8,
    avail_out: c_uint,
    total_out: c_ulong,
}

/// The beginning of `LZ4F_frameInfo_t`.
#[repr(C)]
struct FrameInfo {
    block_size: c_int,
    block_mode: c_int,
    content_checksum: c_int,
    frame_type: c_int,
    /// 0 if unknown.
    content_size: u64,
}

unsafe extern "C" {
    fn __real_inflate(stream: *mut Stream, flush: c_int) -> c_int;
    fn __real_LZ4F_getFrameInfo(
        context: *mut c_void,
        info: *mut FrameInfo,
        source: *const c_void,
        source_bytes: *mut usize,
    ) -> usize;
    fn __real_LZ4F_decompress(
        context: *mut c_void,
        target: *mut c_void,
        target_bytes: *mut usize,
        source: *const c_void,
        source_bytes: *mut usize,
        options: *const c_void,
    ) -> usize;
}

/// librdkafka calls it twice for a batch: first without a buffer for the result, to learn its size.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_inflate(stream: *mut Stream, flush: c_int) -> c_int {
    // SAFETY: the arguments are those of the caller, and zlib has checked the stream if it returns no error.
    unsafe {
        let result = __real_inflate(stream, flush);
        let is_too_large = result >= 0 && (*stream).total_out > decompressed_bytes_max() as c_ulong;
        if is_too_large { DATA_ERROR } else { result }
    }
}

/// librdkafka allocates the size that a frame claims.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_LZ4F_getFrameInfo(
    context: *mut c_void,
    info: *mut FrameInfo,
    source: *const c_void,
    source_bytes: *mut usize,
) -> usize {
    FRAME_BYTES.set(0);
    // SAFETY: the arguments are those of the caller, who provides the structure.
    unsafe {
        let result = __real_LZ4F_getFrameInfo(context, info, source, source_bytes);
        let is_too_large = || (*info).content_size > decompressed_bytes_max() as u64;
        if result < ERRORS_FROM && is_too_large() { GENERIC_ERROR } else { result }
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_LZ4F_decompress(
    context: *mut c_void,
    target: *mut c_void,
    target_bytes: *mut usize,
    source: *const c_void,
    source_bytes: *mut usize,
    options: *const c_void,
) -> usize {
    // SAFETY: the arguments are those of the caller; `target_bytes` returns how many were written.
    unsafe {
        let result = __real_LZ4F_decompress(context, target, target_bytes, source, source_bytes, options);
        let bytes = FRAME_BYTES.get().saturating_add(*target_bytes);
        FRAME_BYTES.set(bytes);
        if bytes > decompressed_bytes_max() { GENERIC_ERROR } else { result }
    }
}
