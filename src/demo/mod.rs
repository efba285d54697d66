//! (stand-in)
use std::net::SocketAddr;
pub fn run(_listen: Option<SocketAddr>, _admin: Option<SocketAddr>) -> anyhow::Result<()> {
    Ok(())
}
