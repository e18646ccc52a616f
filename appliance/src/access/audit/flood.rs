//! How many refusals of those who are not known are recorded: so many a second, and of the others their number.

/// A second.
const RECORDED: u64 = 10;
const SECOND_NS: u64 = 1_000_000_000;

/// See the module documentation.
#[derive(Debug, Default)]
pub(super) struct Flood {
    second: u64,
    recorded: u64,
    left_out: u64,
}

impl Flood {
    /// Whether one more is recorded at this time, and with it how many were left out since the last one.
    pub(super) fn admit(&mut self, elapsed_ns: u64) -> Option<u64> {
        let second = elapsed_ns / SECOND_NS;
        if second != self.second {
            (self.second, self.recorded) = (second, 0);
        }
        if self.recorded == RECORDED {
            self.left_out += 1;
            return None;
        }
        self.recorded += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_recorded() {
        let mut flood = Flood::default();
        let recorded = (0..1000).filter_map(|_| flood.admit(5)).count();
        assert_eq!(recorded, 10);
        assert_eq!(flood.admit(SECOND_NS), Some(990));
        assert_eq!(flood.admit(SECOND_NS), Some(0));
    }
}
