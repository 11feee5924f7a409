//! Sources: the place that a profile names, opened for one model.
//!
//! Owns which kind of source belongs to which kind of place. Refuses to know what the model is good for. The stage
//! `checks` and the miner verbs open sources here.

use std::fmt;

use super::{Credentials, Http, Hub, Limits, Plain, Registry, Source};
use crate::artifact::model::{Place, Reference, Trouble, reference::Revision};

/// Where the models of a challenge are.
#[derive(Clone)]
pub struct Sources {
    place: Place,
    limits: Limits,
    credentials: Option<Credentials>,
}

impl Sources {
    /// The profile's place, spoken to within these limits, with these credentials where it asks for some.
    #[must_use]
    pub const fn new(place: Place, limits: Limits, credentials: Option<Credentials>) -> Self {
        Self { place, limits, credentials }
    }

    /// The source of one model. Its addresses are looked up once, and stay those for as long as it is open.
    ///
    /// # Errors
    /// `Malformed` when the place takes no references of this kind, `Forbidden` when it may not be spoken to.
    pub fn open(&self, reference: &Reference) -> Result<Box<dyn Source>, Trouble> {
        let http = Http::new(self.limits)?;
        Ok(match &self.place {
            Place::Registry(base) => Box::new(Registry::new(http, base, reference.clone(), self.credentials.clone())?),
            Place::Hub(base) => Box::new(Hub::new(http, base, reference.clone())?),
            Place::Plain(base) => {
                let Revision::Sha256(digest) = *reference.revision() else {
                    return Err(Trouble::Malformed(format!("{reference} has no SHA-256")));
                };
                Box::new(Plain::new(http, &format!("{}/{}", base.trim_end_matches('/'), reference.repo()), digest)?)
            }
        })
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("place", &self.place).finish_non_exhaustive()
    }
}
