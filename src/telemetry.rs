//! (stand-in)
pub fn init() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SIDESTREAM_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
