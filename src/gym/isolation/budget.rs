//! The processor time that a child may take, and the silence that is kept for death.
//!
//! Owns the reading of a child's processor time, which other work on the machine does not change. Refuses to know the
//! time of day: it is asked at every tick. Only the conversation with a child uses it.

use super::{CHILD_UNAVAILABLE, codes};
use crate::fault::Fault;

/// Ticks without any use of the processor until a child counts as hung: five minutes.
const IDLE_TICKS_MAX: u32 = 6_000;

/// What one child may take.
pub(super) struct Budget {
    child: u32,
    cpu_ms_max: u64,
    spent_ms: u64,
    idle_ticks: u32,
}

impl Budget {
    pub(super) const fn new(child: u32, cpu_ms_max: u64) -> Self {
        Self { child, cpu_ms_max, spent_ms: 0, idle_ticks: 0 }
    }

    /// Looks once. The policy is to blame for processor time, nobody for a child that does nothing.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        // Where it cannot be read, the wall time of the job must do, which blames nobody.
        let Some(spent_ms) = cpu_ms(self.child) else { return Ok(()) };
        if spent_ms > self.cpu_ms_max {
            let detail = format!("{spent_ms} ms of processor time, the limit is {} ms", self.cpu_ms_max);
            return Err(codes::TOO_SLOW.because(detail));
        }
        self.idle_ticks = if spent_ms == self.spent_ms { self.idle_ticks + 1 } else { 0 };
        self.spent_ms = spent_ms;
        if self.idle_ticks > IDLE_TICKS_MAX {
            return Err(CHILD_UNAVAILABLE.because("it did nothing for minutes"));
        }
        Ok(())
    }
}

/// Processor time of a process in all its threads, in milliseconds.
#[cfg(target_os = "linux")]
fn cpu_ms(process: u32) -> Option<u64> {
    /// The kernel counts in hundredths of a second here, on every architecture this program runs on.
    const TICK_MS: u64 = 10;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it may hold anything but ends with the last parenthesis; user and system time are the 14th and
    // 15th field.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()?.saturating_add(ticks()?).saturating_mul(TICK_MS))
}

#[cfg(not(target_os = "linux"))]
const fn cpu_ms(_process: u32) -> Option<u64> {
    None
}
