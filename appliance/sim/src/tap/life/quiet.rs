//! The end of a life: nothing goes wrong any more, and after a while the appliance has what the volume has.

use super::Life;
use crate::model::{Checked, Wrong};
use understudy_initiator::tap::core::{Phase, Standing};

/// Rounds after which all must be well.
const ROUNDS: u64 = 400;

impl Life {
    /// All that was broken is well again, and all that was written arrives.
    pub(super) fn settle_down(&mut self) -> Checked {
        self.heal()?;
        self.catch_up()?;
        self.compare_all()?;
        self.start_again()?;
        self.note("the last loss of power");
        self.end_site(true)?;
        self.heal()?;
        self.compare_all()
    }

    fn heal(&mut self) -> Checked {
        self.note("all is well");
        self.drop_sessions();
        (self.is_limited, self.is_calm, self.away) = (false, true, 0);
        for disk in [&self.primary.volume, &self.primary.state, self.site.disk()] {
            disk.set_limit(None);
            disk.set_fault(None);
        }
        // Who met a failure may not trust its disk any more.
        self.restart_site()?;
        self.site.disk().set_fault(None);
        self.recover()
    }

    fn standing(&self) -> Checked<Standing> {
        let tap = self.primary.tap().ok_or_else(|| Wrong("there is no tap".into()))?;
        Ok(tap.core.standing())
    }

    /// Until the appliance has all that was flushed.
    fn catch_up(&mut self) -> Checked {
        self.flush()?;
        for _ in 0..ROUNDS {
            self.primary.clock.advance(1_000_000);
            self.connect()?;
            self.exchange()?;
            let Standing { phase, last, durable, .. } = self.standing()?;
            if phase == Phase::Following && durable == last {
                return Ok(());
            }
            self.fold()?;
        }
        Err(Wrong(format!("nobody interferes, and yet the tap stands so: {:?}", self.standing()?)))
    }

    /// The newest moment is the volume, and so is the newest point once the journal is folded, and its secondary.
    fn compare_all(&mut self) -> Checked {
        let volume = self.primary.content();
        if let Some(block) = self.past.now.differences(&volume).first() {
            return Err(Wrong(format!("block {block} of the volume is not what was written")));
        }
        for folds in [false, true] {
            if folds {
                self.fold()?;
            }
            let newest = self.open(i64::MAX)?.ok_or_else(|| Wrong("there is no moment at all".into()))?;
            if newest.point.map.root() != self.past.now.root() {
                return Err(Wrong(format!("the newest moment, {:?}, is not the volume", newest.point.position)));
            }
            self.read(&newest)?;
        }
        self.look()?;
        self.settle()
    }

    /// A tap that ends as it should and starts again has nothing to read.
    fn start_again(&mut self) -> Checked {
        self.restart_tap()?;
        self.recover()?;
        let Standing { journal, .. } = self.standing()?;
        self.connect()?;
        let after = self.standing()?;
        match after.phase == Phase::Following && after.journal == journal && self.line.is_some() {
            true => Ok(()),
            false => Err(Wrong(format!("after a restart in order the tap stands so: {after:?}"))),
        }
    }
}
