//! Where a value stands in a file: the parser tells the place of what it refuses, so the value is refused.
//!
//! Values carry no places of their own; only who found one wrong asks, and reads the file once more.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Line and column of the value under these keys; `None` where there is none.
pub(crate) fn locate(text: &str, keys: &[&str]) -> Option<(usize, usize)> {
    locate_after(text, keys, 0)
}

/// The same of the second value, where the last key is there twice.
pub(crate) fn locate_second(text: &str, keys: &[&str]) -> Option<(usize, usize)> {
    locate_after(text, keys, 1)
}

fn locate_after(text: &str, keys: &[&str], passed: usize) -> Option<(usize, usize)> {
    let found = Way { keys, passed }.deserialize(serde_yaml::Deserializer::from_str(text));
    let place = found.err()?.location()?;
    Some((place.line(), place.column()))
}

/// The keys that are still to be followed; of the last one, so many are passed by.
struct Way<'a> {
    keys: &'a [&'a str],
    passed: usize,
}

impl Way<'_> {
    /// Whether this key is the next one.
    fn goes(&mut self, key: &str) -> bool {
        let is_it = key == self.keys[0];
        let pass = is_it && self.keys.len() == 1 && self.passed > 0;
        self.passed -= usize::from(pass);
        is_it && !pass
    }

    fn rest(&self) -> Self {
        Way { keys: &self.keys[1..], passed: self.passed }
    }
}

impl<'de> DeserializeSeed<'de> for Way<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.keys {
            [] => deserializer.deserialize_any(Refused),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Way<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the keys name")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.goes(&key) {
                true => map.next_value_seed(self.rest())?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for index in 0.. {
            let there = match self.goes(&index.to_string()) {
                true => list.next_element_seed(self.rest())?.is_some(),
                false => list.next_element::<IgnoredAny>()?.is_some(),
            };
            if !there {
                break;
            }
        }
        Ok(())
    }
}

/// Takes nothing.
struct Refused;

impl Visitor<'_> for Refused {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("to be told the place")
    }
}
