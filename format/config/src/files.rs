//! The file that is named and the files that it includes, as one.
//!
//! Order: the file itself, then the directories of `include` as they are listed, in each the files `*.yaml` by name. The order decides
//! nothing but which of two errors is told: a key that two files have is an error, wherever they are.

use crate::{ConfigError, Keys, Named, VERSION, explain, locate};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, ConfigError>;

/// A value, and the file that has it.
pub type Found<'a, R, T> = (&'a Source<R>, T);

/// All files as one.
#[derive(Debug)]
pub struct Files<R>(Vec<Source<R>>);

/// One file.
#[derive(Debug)]
pub struct Source<R> {
    file: PathBuf,
    text: String,
    raw: R,
}

impl<R: Keys> Files<R> {
    /// Reads a file and what it includes; a directory that is not there is a warning.
    pub fn read(file: &Path, warnings: &mut Vec<ConfigError>) -> Result<Self> {
        let main = Source::<R>::read(file)?;
        if main.raw.version().is_none() {
            return Err(main.wrong(&[], format!("missing key \"version\": add `version: {VERSION}`")));
        }
        let mut paths = Vec::new();
        for (index, dir) in main.raw.include().iter().enumerate() {
            let dir = file.parent().unwrap_or(Path::new(".")).join(dir);
            match included(&dir) {
                Ok(files) => paths.extend(files),
                Err(error) => {
                    let reason = format!("include: {}: {error}; nothing is included from there", dir.display());
                    warnings.push(main.wrong(&["include", &index.to_string()], reason));
                }
            }
        }
        let included = paths.iter().map(|path| Source::included(path)).collect::<Result<Vec<_>>>()?;
        Ok(Self(std::iter::once(main).chain(included).collect()))
    }

    /// The files, in the order in which they were read.
    pub fn sources(&self) -> impl Iterator<Item = &Source<R>> {
        self.0.iter()
    }

    /// Their paths, in the order in which they were read.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.0.iter().map(|source| source.file.clone()).collect()
    }

    /// What is wrong with the file that was named as a whole.
    pub fn wrong(&self, reason: impl Into<String>) -> ConfigError {
        self.0[0].wrong(&[], reason)
    }

    /// The one value under these keys, with its meaning.
    pub fn parsed<T: ?Sized, U>(
        &self,
        keys: &[&str],
        get: impl Fn(&R) -> Option<&T>,
        parse: impl Fn(&T) -> std::result::Result<U, String>,
    ) -> Result<Option<U>> {
        let mut found = self.0.iter().filter_map(|source| Some((source, get(&source.raw)?)));
        let Some((source, value)) = found.next() else { return Ok(None) };
        if let Some((other, _)) = found.next() {
            return Err(conflict(source, other, keys));
        }
        source.parsed(keys, value, parse).map(Some)
    }

    /// All things of a kind by their names, each from one file.
    pub fn named<'a, T: 'a>(
        &'a self,
        kind: &str,
        get: impl Fn(&'a R) -> &'a Named<T>,
    ) -> Result<BTreeMap<&'a str, Found<'a, R, &'a T>>> {
        let mut all: BTreeMap<&str, Found<'_, R, &T>> = BTreeMap::new();
        for source in &self.0 {
            for (name, value) in &get(&source.raw).0 {
                if let Some((other, _)) = all.insert(name, (source, value)) {
                    return Err(conflict(other, source, &[kind, name]));
                }
            }
        }
        Ok(all)
    }
}

impl<R: Keys> Source<R> {
    fn read(file: &Path) -> Result<Self> {
        let wrong = |place, reason| ConfigError { file: file.to_owned(), place, reason };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(None, format!("cannot be read: {error}")))?;
        let raw: R = serde_yaml::from_str(&text).map_err(|error| {
            let (place, reason) = explain::explain(&error, &text, R::SUCH_AS);
            wrong(place, reason)
        })?;
        let source = Self { file: file.to_owned(), text, raw };
        match source.raw.version() {
            None | Some(VERSION) => Ok(source),
            Some(other) => {
                let reason = format!("version: {other} is not known to this program: expected {VERSION}");
                Err(source.wrong(&["version"], reason))
            }
        }
    }

    fn included(file: &Path) -> Result<Self> {
        let source = Self::read(file)?;
        match source.raw.include().is_empty() {
            true => Ok(source),
            false => Err(source.wrong(&["include"], "include: only the first file may include others")),
        }
    }

    /// The meaning of a value under these keys.
    pub fn parsed<T: ?Sized, U>(
        &self,
        keys: &[&str],
        value: &T,
        parse: impl Fn(&T) -> std::result::Result<U, String>,
    ) -> Result<U> {
        parse(value).map_err(|reason| self.wrong(keys, format!("{}: {reason}", keys.join("."))))
    }
}

impl<R> Source<R> {
    /// Its keys.
    pub fn raw(&self) -> &R {
        &self.raw
    }

    /// What is wrong with the value under these keys.
    pub fn wrong(&self, keys: &[&str], reason: impl Into<String>) -> ConfigError {
        let place = locate::locate(&self.text, keys);
        ConfigError { file: self.file.clone(), place, reason: reason.into() }
    }
}

/// The same is said in two files.
pub fn conflict<R>(first: &Source<R>, second: &Source<R>, keys: &[&str]) -> ConfigError {
    let there = locate::locate(&first.text, keys).map_or(String::new(), |(line, _)| format!(", line {line}"));
    let reason = format!("{}: is set in {}{there} as well; say it once", keys.join("."), first.file.display());
    second.wrong(keys, reason)
}

/// The files of a directory, in order.
fn included(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<BTreeSet<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect())
}
