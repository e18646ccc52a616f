//! Metadata contexts: the names that an export offers and the numbers a client selected them under.
//!
//! A context's number is its place among those that were offered for selection plus one, so it is unique within a
//! session and zero stays free for listings. Nothing here must know any context but by its name.

/// The one context that the protocol itself defines: what is allocated, what reads as zero.
pub const BASE_ALLOCATION: &str = "base:allocation";

/// A context selected for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaContext {
    /// Its number in block status replies; nonzero.
    pub id: u32,
    /// Its name, such as `base:allocation`.
    pub name: String,
}

/// The contexts to list for `queries` (proto.md, `NBD_OPT_LIST_META_CONTEXT`): all without a query;
/// a query that ends in a colon asks for all below it. Listed with the number zero.
pub(super) fn listed(offered: &[String], queries: &[String]) -> Vec<MetaContext> {
    let asked = |name: &str| {
        queries.is_empty() || queries.iter().any(|q| q == name || q.ends_with(':') && name.starts_with(q.as_str()))
    };
    let names = offered.iter().filter(|name| asked(name));
    names.map(|name| MetaContext { id: 0, name: name.clone() }).collect()
}

/// The contexts that `queries` select (proto.md, `NBD_OPT_SET_META_CONTEXT`): those named exactly.
pub(super) fn selected(offered: &[String], queries: &[String]) -> Vec<MetaContext> {
    let numbered = (1..).zip(offered).filter(|(_, name)| queries.contains(name));
    numbered.map(|(id, name)| MetaContext { id, name: name.clone() }).collect()
}
