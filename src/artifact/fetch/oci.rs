//! OCI registries: a model is an image manifest with one layer for each file, its name as the layer's title.
//!
//! Owns the form of the manifest, and blobs by range. Refuses to
//! follow tags: what is fetched is what was committed. Source: the OCI distribution and image specifications, 1.1.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Response;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::{
    download::{Held, Source},
    http::{Ask, Http, body, cut, is_range},
    session::{Access, Credentials, Session},
};
use crate::artifact::model::{
    Reference, Repo, Trouble,
    files::{FILES_MAX, FileEntry},
    reference::Revision,
};

/// Bytes of a manifest: what registries themselves take.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// What a manifest may be.
pub(super) const MANIFESTS: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// The annotation that names a layer's file.
pub(super) const TITLE: &str = "org.opencontainers.image.title";

/// One model in a registry.
#[derive(Debug)]
pub struct Registry {
    session: Session,
    reference: Reference,
    digest: [u8; 32],
    layers: OnceCell<BTreeMap<String, Layer>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Manifest {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    layers: Vec<Layer>,
}

/// A file.
#[derive(Debug, Clone, Deserialize)]
struct Layer {
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Registry {
    /// The model with this reference in the registry at this address, such as `https://registry.example.com`.
    ///
    /// # Errors
    /// When the address may not be spoken to, or the reference is none of a registry.
    pub fn new(
        http: Http,
        base: &str,
        reference: Reference,
        credentials: Option<Credentials>,
    ) -> Result<Self, Trouble> {
        let Revision::Sha256(digest) = *reference.revision() else {
            return Err(Trouble::Malformed(format!("{reference} is a commit of a hub, not a digest of a registry")));
        };
        let session = Session::new(http, base, reference.repo(), Access::Pull, credentials)?;
        Ok(Self { session, reference, digest, layers: OnceCell::new() })
    }

    async fn layers(&self) -> Result<&BTreeMap<String, Layer>, Trouble> {
        self.layers
            .get_or_try_init(|| async {
                let url = self.session.at("manifests", &self.reference.revision().to_string())?;
                let answer = self.session.ask(&url, Ask { accept: Some(MANIFESTS), ..Ask::default() }).await?;
                let bytes = body(answer, MANIFEST_BYTES_MAX).await?;
                if Sha256::digest(&bytes)[..] != self.digest {
                    return Err(Trouble::Damaged(format!("{url}: the manifest is another")));
                }
                layers_of(&bytes)
            })
            .await
    }

    async fn layer(&self, name: &str) -> Result<&Layer, Trouble> {
        self.layers().await?.get(name).ok_or_else(|| Trouble::Missing(format!("{}: {name}", self.reference)))
    }
}

/// The layers of a manifest by the names of their files.
fn layers_of(bytes: &[u8]) -> Result<BTreeMap<String, Layer>, Trouble> {
    let malformed = |why: String| Trouble::Malformed(format!("the manifest: {why}"));
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|source| malformed(source.to_string()))?;
    if manifest.schema_version != 2 {
        return Err(malformed(format!("version {}", manifest.schema_version)));
    }
    if manifest.layers.len() > FILES_MAX {
        return Err(malformed(format!("{} layers", manifest.layers.len())));
    }
    let mut layers = BTreeMap::new();
    for layer in manifest.layers {
        let title =
            layer.annotations.get(TITLE).cloned().ok_or_else(|| malformed("a layer has no title".to_owned()))?;
        if sha256_of(&layer.digest).is_none() {
            return Err(malformed(format!("`{}` is no digest", cut(&layer.digest))));
        }
        if layers.insert(title.clone(), layer).is_some() {
            return Err(malformed(format!("two layers are titled `{}`", cut(&title))));
        }
    }
    Ok(layers)
}

fn sha256_of(digest: &str) -> Option<[u8; 32]> {
    let digits = digest.strip_prefix("sha256:").filter(|digits| digits.len() == 64)?;
    hex::decode(digits).ok()?.try_into().ok()
}

#[async_trait]
impl Repo for Registry {
    fn uri(&self) -> String {
        format!("{}/{}", self.session.host(), self.reference)
    }

    async fn list(&self) -> Result<Vec<FileEntry>, Trouble> {
        let layers = self.layers().await?;
        let entry =
            |(name, layer): (&String, &Layer)| FileEntry { name: name.clone(), bytes: layer.size, is_regular: true };
        Ok(layers.iter().map(entry).collect())
    }

    async fn read(&self, name: &str, begin: u64, bytes: u64) -> Result<Bytes, Trouble> {
        let size = self.layer(name).await?.size;
        let end = begin.saturating_add(bytes).min(size);
        if begin >= end {
            return Ok(Bytes::new());
        }
        body(self.open(name, begin, end).await?, end - begin).await
    }
}

#[async_trait]
impl Source for Registry {
    async fn held(&self) -> Result<Vec<Held>, Trouble> {
        let layers = self.layers().await?;
        let held = |(name, layer): (&String, &Layer)| Held {
            name: name.clone(),
            bytes: layer.size,
            sha256: sha256_of(&layer.digest),
        };
        Ok(layers.iter().map(held).collect())
    }

    async fn open(&self, name: &str, begin: u64, end: u64) -> Result<Response, Trouble> {
        let url = self.session.at("blobs", &self.layer(name).await?.digest)?;
        let answer = self.session.ask(&url, Ask { range: Some((begin, end - 1)), ..Ask::default() }).await?;
        is_range(&answer, begin, end - 1)?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(layers: &serde_json::Value) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "layers": layers})).unwrap()
    }

    #[test]
    fn layers_are_files() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let layer = |title: &str| serde_json::json!({"digest": digest, "size": 7, "annotations": {TITLE: title}});
        let layers = layers_of(&manifest(&serde_json::json!([layer("a"), layer("b")]))).unwrap();
        assert_eq!(layers.keys().collect::<Vec<_>>(), ["a", "b"]);
        for wrong in [
            serde_json::json!([layer("a"), layer("a")]),
            serde_json::json!([{"digest": digest, "size": 7}]),
            serde_json::json!([{"digest": "sha256:00", "size": 7, "annotations": {TITLE: "a"}}]),
            serde_json::json!([{"digest": digest, "size": -1, "annotations": {TITLE: "a"}}]),
            serde_json::json!(7),
        ] {
            assert!(matches!(layers_of(&manifest(&wrong)), Err(Trouble::Malformed(_))), "{wrong}");
        }
        assert!(layers_of(br#"{"schemaVersion":1,"layers":[]}"#).is_err());
        assert!(layers_of(b"").is_err());
    }
}
