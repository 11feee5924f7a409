//! Fetching: models from where miners keep them, by digest and within limits.
//!
//! Owns the ways to speak to registries, hubs and plain servers, which addresses may be spoken to, and what makes a
//! fetched file the one that was committed. Refuses to judge a model: [`super::model`] does. The stage `checks`, the
//! collector and the miner verbs call it.

mod address;
mod download;
mod http;
mod hub;
mod oci;
mod plain;
mod push;
mod session;
mod sources;

pub use address::{Refusal, is_public};
pub use download::{Download, Held, Progress, Source, download};
pub use http::{Http, Limits};
pub use hub::Hub;
pub use oci::Registry;
pub use plain::Plain;
pub use push::{Moved, Pushed, Pushing, push};
pub use session::Credentials;
pub use sources::Sources;
