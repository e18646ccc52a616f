//! What the parser says of a file, in the words of this program: unknown keys with the nearest one that is known.

/// The place and the reason; the parser ends its messages with the place as well, and of a key that is there twice it tells only where
/// the keys begin.
pub(crate) fn explain(error: &serde_yaml::Error, file: &str, such_as: &str) -> (Option<(usize, usize)>, String) {
    let place = error.location().map(|place| (place.line(), place.column()));
    let text = error.to_string();
    let text = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    let place = second_place(text, file).or(place);
    (place, unknown_key(text).unwrap_or_else(|| plain(text, such_as)))
}

fn second_place(text: &str, file: &str) -> Option<(usize, usize)> {
    let (path, key) = text.split_once("duplicate field `")?;
    let path = path.trim_end_matches(": ").split('.').filter(|key| !key.is_empty());
    let keys: Vec<&str> = path.chain([key.trim_end_matches('`')]).collect();
    crate::locate::locate_second(file, &keys)
}

/// Types as people call them.
fn plain(text: &str, such_as: &str) -> String {
    let keys = format!("expected keys such as {such_as}");
    let names = [("missing field", "missing key"), ("duplicate field", "repeated key"), ("unit value", "nothing")];
    let types = [("expected u32", "expected a whole number"), ("expected a boolean", "expected true or false")];
    let kinds = [("expected struct Raw", keys.as_str()), ("expected struct ", "expected the keys of a ")];
    names.into_iter().chain(types).chain(kinds).fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// ``volumes.db: unknown field `x`, expected one of `a`, `b` ``, if it is that.
fn unknown_key(text: &str) -> Option<String> {
    let (path, rest) = text.split_once("unknown field `")?;
    let (key, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    let accepted = known.join(", ");
    Some(match nearest(key, &known) {
        Some(near) => format!("{path}unknown key {key:?}; did you mean {near:?}? Accepted here: {accepted}"),
        None => format!("{path}unknown key {key:?}; accepted here: {accepted}"),
    })
}

/// The known word that this one is probably a misspelling of.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &str| strsim::damerau_levenshtein(word, known);
    let near = known.iter().copied().min_by_key(|known| distance(known))?;
    (distance(near) <= near.len().max(word.len()) / 3).then_some(near)
}
