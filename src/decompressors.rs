//! Bounds the memory of a batch that librdkafka decompresses by gzip, LZ4 or Snappy. It bounds zstd itself.
//!
//! The linker redirects librdkafka's calls to these functions (`build.rs`). Beyond the limit they report invalid data:
//! the batch is then one that cannot be read, which is a gap.
#![allow(unsafe_code)] // The functions are C's.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use std::ptr;
use std::slice;

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
    fn __real_rd_kafka_snappy_uncompressed_length(source: *const c_char, bytes: usize, result: *mut usize) -> bool;
    fn __real_rd_kafka_snappy_java_uncompress(
        source: *const c_char,
        bytes: usize,
        result_bytes: *mut usize,
        error: *mut c_char,
        error_bytes: usize,
    ) -> *mut c_char;
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

/// librdkafka allocates the size that the data claims.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_rd_kafka_snappy_uncompressed_length(
    source: *const c_char,
    bytes: usize,
    result: *mut usize,
) -> bool {
    // SAFETY: the arguments are those of the caller; `result` returns the size.
    unsafe { __real_rd_kafka_snappy_uncompressed_length(source, bytes, result) && *result <= decompressed_bytes_max() }
}

/// The framing of snappy-java: chunks of Snappy, each after its length. librdkafka allocates the sum of their sizes.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_rd_kafka_snappy_java_uncompress(
    source: *const c_char,
    bytes: usize,
    result_bytes: *mut usize,
    error: *mut c_char,
    error_bytes: usize,
) -> *mut c_char {
    // SAFETY: the arguments are those of the caller, who logs the error, a text of at most `error_bytes`.
    unsafe {
        if framed_bytes(slice::from_raw_parts(source.cast(), bytes)) > decompressed_bytes_max() {
            if error_bytes > 0 {
                *error = 0;
            }
            return ptr::null_mut();
        }
        __real_rd_kafka_snappy_java_uncompress(source, bytes, result_bytes, error, error_bytes)
    }
}

/// The size that all chunks claim. librdkafka rejects those that are not whole.
fn framed_bytes(mut chunks: &[u8]) -> usize {
    let mut sum = 0_usize;
    while let Some((length, rest)) = chunks.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((chunk, rest)) = rest.split_at_checked(length) else { break };
        let mut claimed = 0;
        // SAFETY: the chunk is alive, and `claimed` takes the size.
        let is_valid =
            unsafe { __real_rd_kafka_snappy_uncompressed_length(chunk.as_ptr().cast(), chunk.len(), &raw mut claimed) };
        sum = sum.saturating_add(if is_valid { claimed } else { 0 });
        chunks = rest;
    }
    sum
}
