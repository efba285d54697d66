//! Lets the binary bound the decompressors that librdkafka uses: see `src/decompressors.rs`.

/// The linker redirects calls of these functions to `__wrap_…` of the binary.
const WRAPPED: [&str; 5] = [
    "inflate",
    "LZ4F_getFrameInfo",
    "LZ4F_decompress",
    "rd_kafka_snappy_uncompressed_length",
    "rd_kafka_snappy_java_uncompress",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_FEATURE_SERVER").is_ok() {
        WRAPPED.iter().for_each(|name| println!("cargo:rustc-link-arg-bins=-Wl,--wrap={name}"));
    }
}
