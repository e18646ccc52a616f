//! One component of a calendar expression: any value, or values, ranges and repetitions.

/// Values of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// `*`
    Any,
    /// All that any part has.
    Parts(Vec<Part>),
}

/// `start`, `start..end`, `start/step` or `start..end/step`; a step of 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: u32,
    /// The last value that may be meant; without it, the largest of the component.
    pub(super) end: Option<u32>,
    pub(super) step: u32,
}

impl Part {
    pub(super) fn one(start: u32) -> Self {
        Self { start, end: Some(start), step: 0 }
    }

    /// The smallest value from `from` to `max`.
    fn at_least(self, from: u32, max: u32) -> Option<u32> {
        let steps = from.saturating_sub(self.start).div_ceil(self.step.max(1));
        let value = steps.checked_mul(self.step.max(1))?.checked_add(self.start)?;
        (value <= self.end.unwrap_or(max).min(max)).then_some(value)
    }

    /// Counted from the end of a month with so many days, for what counts them from its start.
    fn counted_back(self, days: u32) -> Self {
        let place = |value: u32| (days + 1).saturating_sub(value);
        match self.end {
            // From the end, the larger number comes first.
            Some(end) => Self { start: place(end), end: Some(place(self.start)), step: self.step },
            None => Self { start: place(self.start), end: None, step: self.step },
        }
    }
}

impl Field {
    /// The smallest value from `from` to `max`.
    pub(super) fn at_least(&self, from: u32, max: u32) -> Option<u32> {
        match self {
            Self::Any => (from <= max).then_some(from),
            Self::Parts(parts) => parts.iter().filter_map(|part| part.at_least(from, max)).min(),
        }
    }

    /// The same for days that are counted from the end of a month with so many of them.
    pub(super) fn at_least_from_end(&self, from: u32, days: u32) -> Option<u32> {
        match self {
            Self::Any => self.at_least(from, days),
            Self::Parts(parts) => parts.iter().filter_map(|part| part.counted_back(days).at_least(from, days)).min(),
        }
    }

    /// Whether it goes through values one after the other, instead of naming them.
    pub(super) fn repeats(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Parts(parts) => parts.iter().any(|part| part.step > 0 && part.end.is_none_or(|end| end > part.start)),
        }
    }
}
