//! Volumes and points as a table, and how two tables differ.

use crate::pool::catalogue::{Contents, Held};
use crate::text::{plural, time};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_format::point::Label;

/// A point.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PointRow {
    number: u64,
    created_ns: i64,
    size: u64,
    root: String,
    label: String,
    is_protected: bool,
}

impl PointRow {
    fn of(held: &Held) -> Self {
        let Held { point, is_protected, .. } = held;
        Self {
            number: point.number,
            created_ns: point.created_ns,
            size: point.map.geometry.volume_size(),
            root: point.map.root().to_string(),
            label: point.label.as_ref().map_or(String::new(), |label: &Label| label.as_str().to_owned()),
            is_protected: *is_protected,
        }
    }
}

/// A volume as an index knows it: what `understudyd reindex --json` says in one line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    #[serde(rename = "volume")]
    name: String,
    points: u64,
    newest: u64,
    root: String,
    protected: Vec<u64>,
}

impl Row {
    /// Reads what `understudyd reindex --json` says: an object a volume, one a line.
    pub fn read(text: &str) -> Result<Vec<Self>> {
        let row = |line| serde_json::from_str(line).with_context(|| format!("understudyd reindex said {line:?}"));
        text.lines().map(row).collect()
    }

    fn told(&self) -> String {
        let (points, protected) = (plural(self.points, "point"), &self.protected);
        format!("{points}, the newest @{} with root {}, protected {protected:?}", self.newest, self.root)
    }
}

/// All volumes, by name, with all points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    volumes: Vec<(String, Vec<PointRow>)>,
}

impl Table {
    /// What the segments have.
    pub fn of(contents: &Contents) -> Self {
        let entries = contents.entries.iter();
        let volumes =
            entries.map(|entry| (entry.volume.name.to_string(), entry.points.iter().map(PointRow::of).collect()));
        Self { volumes: volumes.collect() }
    }

    /// `2 volumes, 5 points, 1 of them protected`.
    pub fn sum(&self) -> String {
        let points = || self.volumes.iter().flat_map(|(_, points)| points);
        let (volumes, all) = (plural(self.volumes.len() as u64, "volume"), plural(points().count() as u64, "point"));
        format!("{volumes}, {all}, {} of them protected", points().filter(|point| point.is_protected).count())
    }

    /// For people: a line a volume, under a head.
    pub fn lines(&self) -> Vec<String> {
        let width = self.volumes.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(6);
        let head = format!("  {:width$}  POINTS  PROTECTED  NEWEST  {:20}  ROOT", "VOLUME", "TIME");
        let line = |(name, points): &(String, Vec<PointRow>)| {
            let newest = points.last().expect("a volume is there while it has a point");
            let protected = points.iter().filter(|point| point.is_protected).count();
            let (count, number, root) = (points.len(), newest.number, &newest.root[..12]);
            let at = time(newest.created_ns);
            format!("  {name:width$}  {count:>6}  {protected:>9}  {number:>6}  {at:20}  {root}")
        };
        std::iter::once(head).chain(self.volumes.iter().map(line)).collect()
    }

    /// For programs: an object a volume, with all points.
    pub fn events(&self) -> Vec<Value> {
        let point = |point: &PointRow| {
            json!({
                "point": point.number, "created_ns": point.created_ns, "size": point.size, "root": point.root,
                "label": point.label, "protected": point.is_protected,
            })
        };
        let event = |(name, points): &(String, Vec<PointRow>)| json!({"event": "volume", "name": name, "points": points.iter().map(point).collect::<Vec<_>>()});
        self.volumes.iter().map(event).collect()
    }

    /// The newest of each volume, as an index has them.
    fn rows(&self) -> Vec<Row> {
        let row = |(name, points): &(String, Vec<PointRow>)| {
            let newest = points.last().expect("a volume is there while it has a point");
            let (newest, root) = (newest.number, newest.root.clone());
            let protected = points.iter().filter(|point| point.is_protected).map(|point| point.number).collect();
            Row { name: name.clone(), points: points.len() as u64, newest, root, protected }
        };
        self.volumes.iter().map(row).collect()
    }

    /// How this table, from the segments afterwards, differs from the one before, and from what the new index has.
    pub fn differences(&self, before: &Self, index: &[Row]) -> Vec<String> {
        let mut told = Vec::new();
        if self != before {
            told.push(format!("the segments had {} and have {}, or others", before.sum(), self.sum()));
        }
        let own = self.rows();
        for row in &own {
            match index.iter().find(|other| other.name == row.name) {
                Some(other) if other == row => {}
                Some(other) => told.push(format!("{}: the index has {}, not {}", row.name, other.told(), row.told())),
                None => told.push(format!("{}: the index does not have it", row.name)),
            }
        }
        let strangers = index.iter().filter(|row| row.points > 0 && !own.iter().any(|other| other.name == row.name));
        told.extend(strangers.map(|row| format!("{}: the index has it, and the segments do not", row.name)));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let point = |number: u64| PointRow {
            number,
            created_ns: 0,
            size: 512,
            root: format!("{number:064x}"),
            label: String::new(),
            is_protected: number == 1,
        };
        Table { volumes: vec![("a".into(), vec![point(1), point(3)]), ("b".into(), vec![point(2)])] }
    }

    fn said(name: &str, points: u64, newest: u64, protected: &[u64]) -> String {
        let root = format!("{newest:064x}");
        let event = json!({
            "event": "volume", "volume": name, "points": points, "newest": newest, "root": root, "protected": protected,
        });
        format!("{event}\n")
    }

    #[test]
    fn an_index_that_has_the_same_differs_in_nothing() {
        let rows = Row::read(&[said("a", 2, 3, &[1]), said("b", 1, 2, &[])].concat()).unwrap();
        assert_eq!(table().differences(&table(), &rows), Vec::<String>::new());
        assert_eq!(table().sum(), "2 volumes, 3 points, 1 of them protected");
        assert!(Row::read("a 2 3 4\n").is_err());
    }

    #[test]
    fn every_difference_is_told() {
        let said = [said("a", 2, 3, &[3]), said("c", 1, 1, &[])].concat();
        let mut before = table();
        before.volumes[0].1[0].is_protected = false;
        let told = table().differences(&before, &Row::read(&said).unwrap());
        let starts = ["the segments had ", "a: the index has 2 points", "b: the index does", "c: the index has it"];
        assert!(told.iter().zip(starts).all(|(told, start)| told.starts_with(start)), "{told:#?}");
        assert_eq!(told.len(), 4);
    }
}
