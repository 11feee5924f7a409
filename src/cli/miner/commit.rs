//! Committing: a sealed field on chain, whose salt is on disk first and whose extrinsic is kept until it is final.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tracing::debug;

use super::{
    Step, Watch, digest_file,
    seals::{Seal, Seals, Subject},
};
use crate::{
    chain::{BlockRef, Call, Client, Error, Keypair, Sealed, Signed, Slug, merge_fields},
    fault::{Class, Code, Fault},
    ids::{Digest, Entropy, Hotkey},
};

/// How often a call that expired is signed anew: an era is minutes long, and a chain that stands still that often has
/// trouble that signing does not mend.
const SIGNINGS_MAX: u32 = 3;

/// Something that was included is not there.
pub const WRITE_LOST: Code = Code::new(
    Class::Infra,
    "chain_write_lost",
    "the call succeeded on chain, but its effect is not there any more",
    "look at the hotkey on chain, then do it again",
);

/// What to commit to.
#[derive(Clone, Copy)]
pub struct Commit<'a> {
    /// The subnet.
    pub netuid: u16,
    /// The challenge.
    pub challenge: &'a Slug,
    /// Who commits, and signs.
    pub hotkey: &'a Keypair,
    /// The artifact's file. Its salts are kept in a file beside it: two miners must not share a path.
    pub artifact: &'a Path,
    /// Whether to commit anew although a commitment stands: its submission has ended without the artifact.
    pub again: bool,
}

/// A commitment that stands on chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Committed {
    /// The subnet.
    pub netuid: u16,
    /// The challenge.
    pub challenge: String,
    /// Who committed.
    pub hotkey: Hotkey,
    /// SHA-256 of the artifact, or the digest of a model.
    pub artifact: Digest,
    /// The field on chain; the text itself, where that is locked.
    pub field: String,
    /// A finalized block that holds it: the one of its extrinsic, when this program sent it.
    pub block: u64,
    /// Whether it stood there before.
    pub again: bool,
    /// The file that keeps the salt of a sealed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub salt_file: Option<PathBuf>,
    /// The beacon's round that opens it, while it is locked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_round: Option<u64>,
}

impl<'a> Commit<'a> {
    /// What the seal is for.
    pub fn subject(&self, genesis: &'a [u8; 32], artifact: Digest) -> Subject<'a> {
        let hotkey = self.hotkey.account();
        Subject { genesis, netuid: self.netuid, challenge: self.challenge, hotkey, artifact }
    }

    /// The commitment that this seal opens.
    pub fn sealed(&self, seal: &Seal) -> Result<Sealed, Fault> {
        let salt = seal.salt_bytes()?;
        Ok(Sealed::new(&seal.genesis.0, self.netuid, self.challenge, &self.hotkey.account(), &seal.artifact, &salt))
    }

    /// The block of this seal's commitment, when it stands and counts.
    async fn standing(&self, client: &Client, seal: &Seal) -> Result<Option<u64>, Fault> {
        let head = client.finalized_head().await.map_err(|error| error.fault())?;
        // A node that has not seen the block yet cannot say that the commitment is gone.
        if let Some(block) = seal.block.filter(|block| *block > head.number) {
            return Ok(Some(block));
        }
        let sealed = self.sealed(seal)?;
        standing(client, self.netuid, &head, &self.hotkey.account(), &sealed).await.map_err(|error| error.fault())
    }
}

/// Commits to an artifact and waits until that is final. Fields of other challenges are kept. A commitment that stands
/// there already is left as it is, and one that was sent before an interruption is looked for before another is sent.
///
/// # Errors
/// When the artifact or the salt file cannot be used, or the chain refuses or cannot be reached.
pub async fn commit(
    client: &Client,
    what: &Commit<'_>,
    entropy: &dyn Entropy,
    watch: Watch<'_>,
) -> Result<Committed, Fault> {
    let (artifact, _bytes) = digest_file(what.artifact)?;
    let genesis = client.genesis_hash();
    let mut seals = Seals::open(what.artifact)?;
    let subject = what.subject(&genesis, artifact);
    let hotkey = what.hotkey.account();
    let mut seal = seals.find_or_make(&subject, entropy)?;
    let mut standing = what.standing(client, &seal).await?;
    // A commitment that was final and does not count any more, or is of no use any more, is followed by one with a salt
    // of its own: the same field again would keep the old one's place in the ledger, and with it its end.
    if seal.block.is_some() && (standing.is_none() || what.again) {
        seal = seals.make(&subject, entropy)?;
        standing = None;
    }
    watch(&Step::Sealed);
    let sealed = what.sealed(&seal)?;
    let committed = |block, again, seals: &Seals| Committed {
        netuid: what.netuid,
        challenge: what.challenge.to_string(),
        hotkey,
        artifact,
        field: sealed.to_string(),
        block,
        again,
        salt_file: Some(seals.path().to_owned()),
        opens_round: None,
    };
    if let Some(block) = standing {
        watch(&Step::Already { what: format!("committed in block {block}") });
        let block = seal.block.unwrap_or(block);
        seals.keep(&Seal { block: Some(block), signed: None, ..seal })?;
        return Ok(committed(block, true, &seals));
    }
    let mut signings = 0;
    loop {
        signings += 1;
        let signed = match seal.pending() {
            Some(signed) => signed,
            None => sign(client, what.netuid, what.hotkey, &sealed).await?,
        };
        seal.signed = Some(hex::encode(signed.encode()));
        seals.keep(&seal)?;
        watch(&Step::Sent { extrinsic: signed.hash });
        match client.submit_and_wait(&signed).await {
            Ok(block) => {
                watch(&Step::Final { block: block.number });
                seals.keep(&Seal { block: Some(block.number), signed: None, ..seal })?;
                return Ok(committed(block.number, false, &seals));
            }
            Err(error) => {
                // Only a call of which the chain has said the last word is forgotten.
                let is_dead = matches!(error, Error::Expired { .. } | Error::Dispatch { .. } | Error::Pool { .. });
                if is_dead {
                    seal.signed = None;
                    seals.keep(&seal)?;
                }
                if !matches!(error, Error::Expired { .. }) || signings >= SIGNINGS_MAX {
                    return Err(error.fault());
                }
                debug!(signings, "the call expired; signing anew");
            }
        }
    }
}

/// Puts a sealed field on chain and waits until that is final, keeping the fields of other challenges.
///
/// # Errors
/// When the chain refuses or cannot be reached.
pub async fn commit_sealed(
    client: &Client,
    netuid: u16,
    hotkey: &Keypair,
    sealed: &Sealed,
    watch: Watch<'_>,
) -> Result<BlockRef, Fault> {
    let signed = sign(client, netuid, hotkey, sealed).await?;
    watch(&Step::Sent { extrinsic: signed.hash });
    let block = client.submit_and_wait(&signed).await.map_err(|error| error.fault())?;
    watch(&Step::Final { block: block.number });
    Ok(block)
}

async fn sign(client: &Client, netuid: u16, hotkey: &Keypair, sealed: &Sealed) -> Result<Signed, Fault> {
    let existing = async {
        // At the best block, and not before what this hotkey has sent is in one, so that a commitment to another
        // challenge a moment ago is kept too.
        let head = client.settled_head(&hotkey.account()).await?;
        client.commitment_of(netuid, &hotkey.account(), head.hash).await
    };
    let existing = existing.await.map_err(|error: Error| error.fault())?;
    let existing = existing.map(|stored| stored.fields).unwrap_or_default();
    let fields = merge_fields(&existing, sealed).map_err(|error| error.fault())?;
    client.sign(hotkey, Call::SetCommitment { netuid, fields }, None).await.map_err(|error| error.fault())
}

/// The block of the hotkey's last commitment, when this field is part of it, final, and not older than the hotkey's
/// registration: an older one does not count and has to be made again.
async fn standing(
    client: &Client,
    netuid: u16,
    head: &BlockRef,
    hotkey: &Hotkey,
    sealed: &Sealed,
) -> Result<Option<u64>, Error> {
    let stored = client.commitment_of(netuid, hotkey, head.hash).await?;
    let Some(stored) = stored.filter(|stored| stored.fields.contains(&sealed.field())) else { return Ok(None) };
    let metagraph = client.metagraph(netuid, head.hash).await?;
    let counts = metagraph.neuron(hotkey).is_some_and(|neuron| neuron.registered_at <= stored.block);
    Ok(counts.then_some(stored.block))
}
