//! How a disk of QEMU is named: `qemu:MONITOR/NODE`, optionally with `?nbd=ADDRESS` and `&fleece=DIRECTORY`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What such a name begins with.
pub const SCHEME: &str = "qemu:";
/// Where fleeces are, unless it is said.
const FLEECE_DIR: &str = "/var/tmp";

/// A disk of QEMU; see the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuName {
    /// The socket of the monitor.
    pub monitor: PathBuf,
    /// The name of the block node that the guest writes to.
    pub node: String,
    /// The address of an NBD server that QEMU runs already: a path or `HOST:PORT`.
    pub nbd: Option<String>,
    /// Where QEMU can make a file for what the guest overwrites.
    pub fleece_dir: PathBuf,
}

impl FromStr for QemuName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("{text:?}: {why}; expected qemu:MONITOR/NODE, such as qemu:/run/vm/qmp.sock/disk0");
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| wrong("it does not begin with qemu:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (monitor, node) = path.rsplit_once('/').ok_or_else(|| wrong("there is no node in it"))?;
        if monitor.is_empty() || node.is_empty() {
            return Err(wrong("the monitor's socket and the node must both be named"));
        }
        let mut name = Self { monitor: monitor.into(), node: node.into(), nbd: None, fleece_dir: FLEECE_DIR.into() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("nbd", address)) if address.starts_with('/') || address.contains(':') => {
                    name.nbd = Some(address.into());
                }
                Some(("nbd", _)) => return Err(wrong("nbd= takes the absolute path of a socket, or HOST:PORT")),
                Some(("fleece", dir)) if dir.starts_with('/') => name.fleece_dir = dir.into(),
                Some(("fleece", _)) => return Err(wrong("fleece= takes the absolute path of a directory")),
                _ => return Err(wrong(&format!("{pair:?} is not known, nbd=ADDRESS and fleece=DIRECTORY are"))),
            }
        }
        Ok(name)
    }
}

impl fmt::Display for QemuName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.monitor.display(), self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let plain: QemuName = "qemu:/run/vm/qmp.sock/disk0".parse().unwrap();
        assert_eq!((plain.monitor.to_str(), plain.node.as_str(), plain.nbd), (Some("/run/vm/qmp.sock"), "disk0", None));
        assert_eq!(plain.fleece_dir.to_str(), Some("/var/tmp"));
        let full: QemuName = "qemu:q.sock/d?nbd=/run/n.sock&fleece=/big".parse().unwrap();
        assert_eq!((full.nbd.as_deref(), full.fleece_dir.to_str()), (Some("/run/n.sock"), Some("/big")));
        assert_eq!(full.to_string(), "qemu:q.sock/d");
    }

    #[test]
    fn other_names_are_refused_with_a_reason() {
        let refused = |text: &str| text.parse::<QemuName>().unwrap_err();
        assert!(refused("qemu:/sock/").contains("must both be named"));
        assert!(refused("qemu:sock").contains("there is no node"));
        assert!(refused("qemu:/s/d?ndb=x").contains("\"ndb=x\" is not known"));
        assert!(refused("qemu:/s/d?fleece=here").contains("absolute path"));
    }
}
