//! The scheduler: the one owner of the machine's slots.
//!
//! Owns CPU slots, memory, GPU ids and the disk's bytes for models, and hands them out as permits; a permit dropped is a
//! slot freed. Refuses to know what runs. Workers ask it before they claim a replica, the models' cache before a byte
//! is fetched.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::{
    artifact::model::Disk,
    engine::{Needs, Permit},
};

/// One GPU and its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// The device's index.
    pub id: u32,
    /// Its memory in MiB.
    pub vram_mib: u64,
}

/// What the machine offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// CPU slots.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The GPUs.
    pub gpus: Vec<Gpu>,
    /// Bytes of the disk that models may take together.
    pub disk_bytes: u64,
}

/// Asked for more than the machine has: waiting would be for ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the job needs {needs:?}, the machine has {slots:?}")]
pub struct TooLarge {
    needs: Needs,
    slots: Slots,
}

/// Hands out slots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    all: Slots,
    free: Mutex<Slots>,
    freed: Notify,
    disk: Disk,
}

impl Scheduler {
    /// A scheduler of these slots.
    #[must_use]
    pub fn new(slots: Slots) -> Self {
        let disk = Disk::new(slots.disk_bytes);
        let shared = Shared { free: Mutex::new(slots.clone()), all: slots, freed: Notify::new(), disk };
        Self { shared: Arc::new(shared) }
    }

    /// What the machine offers in all.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.shared.all
    }

    /// What is free now.
    #[must_use]
    pub fn free(&self) -> Slots {
        let free = self.shared.free.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Slots { disk_bytes: self.shared.disk.free_bytes(), ..free }
    }

    /// The disk's bytes for models.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.shared.disk
    }

    /// Waits for the slots.
    ///
    /// # Errors
    /// When the machine will never have them.
    pub async fn acquire(&self, needs: Needs) -> Result<Permit, TooLarge> {
        if take(&mut self.shared.all.clone(), needs).is_none() {
            return Err(TooLarge { needs, slots: self.shared.all.clone() });
        }
        loop {
            // Registered before looking, so that a release in between is not missed.
            let freed = self.shared.freed.notified();
            if let Some(permit) = self.try_acquire(needs) {
                return Ok(permit);
            }
            freed.await;
        }
    }

    /// The slots, if they are free now.
    #[must_use]
    pub fn try_acquire(&self, needs: Needs) -> Option<Permit> {
        let gpus = take(&mut self.shared.free.lock().unwrap_or_else(PoisonError::into_inner), needs)?;
        let shared = Arc::clone(&self.shared);
        let ids = gpus.iter().map(|gpu| gpu.id).collect();
        Some(Permit::new(needs, ids, move || {
            let mut free = shared.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.cpus += needs.cpus;
            free.memory_mib += needs.memory_mib;
            free.gpus.extend(gpus);
            free.gpus.sort_by_key(|gpu| gpu.id);
            drop(free);
            shared.freed.notify_waiters();
        }))
    }
}

/// Takes the needs out of the slots and answers the GPUs; takes nothing when something is missing.
fn take(slots: &mut Slots, needs: Needs) -> Option<Vec<Gpu>> {
    let wanted = usize::try_from(needs.gpus).ok()?;
    let chosen: Vec<Gpu> =
        slots.gpus.iter().filter(|gpu| gpu.vram_mib >= needs.vram_mib).take(wanted).copied().collect();
    if slots.cpus < needs.cpus || slots.memory_mib < needs.memory_mib || chosen.len() < wanted {
        return None;
    }
    slots.cpus -= needs.cpus;
    slots.memory_mib -= needs.memory_mib;
    slots.gpus.retain(|gpu| !chosen.contains(gpu));
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Scheduler {
        let gpus = vec![Gpu { id: 0, vram_mib: 8_000 }, Gpu { id: 1, vram_mib: 24_000 }];
        Scheduler::new(Slots { cpus: 2, memory_mib: 1_024, gpus, disk_bytes: 100 })
    }

    #[test]
    fn a_permit_dropped_is_a_slot_freed() {
        let scheduler = machine();
        let needs = Needs { cpus: 2, memory_mib: 1_000, gpus: 1, vram_mib: 10_000 };
        let permit = scheduler.try_acquire(needs).expect("the machine is idle");
        assert_eq!(permit.gpus(), [1]);
        assert!(scheduler.try_acquire(Needs::ONE_CPU).is_none());
        let room = scheduler.disk().take(60).expect("the disk is empty");
        assert_eq!(scheduler.free().disk_bytes, 40);
        drop((permit, room));
        assert_eq!(scheduler.free(), *scheduler.slots());
    }

    #[tokio::test]
    async fn what_the_machine_never_has_is_refused_at_once() {
        let needs = Needs { cpus: 3, memory_mib: 1, gpus: 0, vram_mib: 0 };
        assert!(machine().acquire(needs).await.is_err());
    }

    #[tokio::test]
    async fn a_waiter_gets_what_is_released() {
        let scheduler = machine();
        let both = Needs { cpus: 2, memory_mib: 1, gpus: 0, vram_mib: 0 };
        let first = scheduler.acquire(both).await.expect("fits");
        let second = scheduler.acquire(both);
        tokio::pin!(second);
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        assert_eq!(second.await.expect("fits").needs(), both);
    }
}
