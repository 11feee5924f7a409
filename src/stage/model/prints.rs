//! Fingerprints as they are kept: one of every model that was fetched, under the key of this appliance.
//!
//! Owns their table, and the corpus: what of them is public, an object a model, appended and never changed. Refuses to
//! make or compare fingerprints. The stages of models call it.

use std::sync::Arc;

use rusqlite::{OptionalExtension as _, params};
use serde_json::json;

use super::codes::FINGERPRINT_FAILED;
use crate::{
    clock::Clock,
    dedup::model::{Fingerprint, Key, bytes},
    fault::Fault,
    ids::Digest,
    store::{self, Store},
};

/// A model whose fingerprint is kept.
#[derive(Debug, Clone, Copy)]
pub struct Printed<'a> {
    /// What was committed.
    pub artifact: Digest,
    /// Where it was, as `repository@digest`.
    pub reference: &'a str,
    /// The challenge in which it was met.
    pub challenge: &'a str,
    /// Bytes of its weights.
    pub weights_bytes: u64,
}

/// The fingerprints of this appliance.
#[derive(Clone)]
pub struct Prints {
    store: Store,
    clock: Arc<dyn Clock>,
    key: Arc<Key>,
}

impl Prints {
    /// The fingerprints in this store under this key.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, key: Key) -> Self {
        Self { store, clock, key: Arc::new(key) }
    }

    /// The key under which they are made.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// By what time passes for the stages of models.
    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The fingerprint of a model, if it is kept.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, artifact: Digest) -> Result<Option<Fingerprint>, Fault> {
        let key = hex::encode(self.key.id());
        let read = self.store.db().read(move |conn| {
            let row: Option<Vec<u8>> = conn
                .prepare_cached("SELECT print FROM fingerprints WHERE artifact = ?1 AND key = ?2")?
                .query_row(params![artifact.to_string(), key], |row| row.get(0))
                .optional()?;
            Ok::<_, store::Error>(row)
        });
        let Some(stored) = read.await.map_err(|error| error.fault())? else { return Ok(None) };
        let print =
            bytes::read(&stored).map_err(|source| FINGERPRINT_FAILED.because(format!("{artifact}: {source}")))?;
        Ok(Some(print))
    }

    /// Keeps a fingerprint and publishes what of it is public. The same again changes nothing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep(&self, printed: Printed<'_>, print: &Fingerprint) -> Result<(), Fault> {
        let object = self.publish(printed, print).await?;
        let (key, stored) = (hex::encode(self.key.id()), bytes::write(print));
        let (artifact, challenge) = (printed.artifact.to_string(), printed.challenge.to_owned());
        let (contents, weights_bytes) = (hex::encode(print.contents), printed.weights_bytes);
        let now_ms = self.clock.now_ms();
        let write = self.store.db().write("keep fingerprint", move |tx| {
            tx.prepare_cached(
                "INSERT INTO fingerprints (artifact, key, contents, weights_bytes, print, made_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (artifact, key) DO NOTHING",
            )?
            .execute(params![artifact, key, contents, weights_bytes, stored, now_ms])?;
            tx.prepare_cached(
                "INSERT INTO corpus (challenge, artifact, contents, object, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (challenge, artifact) DO NOTHING",
            )?
            .execute(params![challenge, artifact, contents, object.to_string(), now_ms])?;
            Ok::<_, store::Error>(())
        });
        write.await.map_err(|error| error.fault())
    }

    /// Writes the public object: what anybody can compute from the model, and nothing that the key decides.
    async fn publish(&self, printed: Printed<'_>, print: &Fingerprint) -> Result<Digest, Fault> {
        let norms = &print.layer_norms;
        let object = json!({
            "format": 1,
            "challenge": printed.challenge,
            "artifact": printed.artifact,
            "reference": printed.reference,
            "weights_bytes": printed.weights_bytes,
            "named": hex::encode(print.named),
            "contents": hex::encode(print.contents),
            "method": "layer_norms_v2_with_samples",
            "layer_keys": norms.layer_keys,
            "norm_vector": norms.norm_vector,
            "tensor_samples": norms.tensor_samples,
        });
        let bytes = serde_json::to_vec(&object).map_err(|source| FINGERPRINT_FAILED.because(source.to_string()))?;
        self.store.blobs().put(bytes).await.map_err(|error| error.fault())
    }
}
