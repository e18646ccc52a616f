//! stub
/// stub
pub fn run(_: &crate::args::Demo) -> anyhow::Result<()> {
    Ok(())
}
