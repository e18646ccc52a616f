//! Finds the binaries under test: beside the test executable, or where `UNDERSTUDY_BIN_DIR` points.
//!
//! Must not build anything: a test that compiles hides what it measured.

use std::path::PathBuf;

/// The initiator.
pub const UNDERSTUDY: &str = "understudy";
/// The appliance.
pub const UNDERSTUDYD: &str = "understudyd";
/// The developer tools.
pub const TOOLS: &str = "understudy-tools";

/// Where the named binary is; says what to run when it is not there.
pub fn binary(name: &str) -> PathBuf {
    let dir = match std::env::var_os("UNDERSTUDY_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => beside_the_tests(),
    };
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace --bins` (or `make test`, which does), or set UNDERSTUDY_BIN_DIR",
        path.display()
    );
    path
}

/// Where cargo puts what it makes, and `.ci/install-peers` the kernel for guests.
pub(crate) fn target() -> PathBuf {
    beside_the_tests().parent().expect("a profile's directory is in target").to_path_buf()
}

/// `target/debug`, from `target/debug/deps/e2e-0123456789abcdef`.
fn beside_the_tests() -> PathBuf {
    let exe = std::env::current_exe().expect("the test executable has a path");
    let deps = exe.parent().expect("the test executable is in a directory");
    deps.parent().expect("deps is in the profile's directory").to_path_buf()
}
