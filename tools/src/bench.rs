//! stub
/// stub
pub fn run(_: &crate::args::Bench) -> anyhow::Result<()> {
    Ok(())
}
