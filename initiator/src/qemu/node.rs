//! What QEMU tells of the node of a disk.

use super::QemuName;
use super::qmp::Qmp;
use anyhow::{Result, anyhow};
use serde_json::{Value, json};

/// A block node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Bytes of the disk.
    pub size: u64,
    /// Whether bitmaps can be kept in the image, over the end of QEMU.
    pub keeps_bitmaps: bool,
    /// Its bitmaps.
    pub bitmaps: Vec<Bitmap>,
}

/// A dirty bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    /// Its name.
    pub name: String,
    /// Why it cannot be relied on, if it cannot.
    pub fault: Option<&'static str>,
}

impl Node {
    /// The node that `name` names.
    pub fn find(qmp: &mut Qmp, name: &QemuName) -> Result<Self> {
        let nodes = all(qmp)?;
        let own = nodes.iter().find(|node| node["node-name"] == name.node.as_str());
        let own = own.ok_or_else(|| {
            let names: Vec<&str> = nodes.iter().filter_map(|node| node["node-name"].as_str()).collect();
            anyhow!("source {name}: QEMU has no block node {:?}; it has {}", name.node, names.join(", "))
        })?;
        let size = own["image"]["virtual-size"].as_u64();
        let bitmaps = own["dirty-bitmaps"].as_array().map(|all| all.iter().filter_map(bitmap).collect());
        Ok(Self {
            size: size.ok_or_else(|| anyhow!("source {name}: QEMU does not tell the size of the node"))?,
            keeps_bitmaps: own["drv"] == "qcow2",
            bitmaps: bitmaps.unwrap_or_default(),
        })
    }
}

/// All nodes, as QEMU describes them.
pub fn all(qmp: &mut Qmp) -> Result<Vec<Value>> {
    let nodes = qmp.run("query-named-block-nodes", &json!({"flat": true}))?;
    Ok(nodes.as_array().cloned().unwrap_or_default())
}

fn bitmap(described: &Value) -> Option<Bitmap> {
    let is = |flag: &str| described[flag].as_bool().unwrap_or(false);
    let fault = match () {
        () if is("inconsistent") => Some("is inconsistent, for QEMU did not end in order"),
        () if !is("recording") => Some("does not record"),
        () => None,
    };
    Some(Bitmap { name: described["name"].as_str()?.to_owned(), fault })
}
