//! Signed extrinsics: how their bytes are laid out and what their signature covers.
//!
//! Owns the V4 envelope, the transaction extensions that carry bytes, eras, and the check of the signature. Refuses
//! to know nonces on chain and what calls do. The pool and the block builder of `devnet/` use it.

#[cfg(test)]
use parity_scale_codec::Encode as _;
use parity_scale_codec::{Compact, Decode as _};

use super::{
    hashing::{Hash, blake2},
    limits,
    runtime::Runtime,
};

/// The signing context of every Substrate chain.
const SIGNING_CONTEXT: &[u8] = b"substrate";
/// Payloads longer than this are hashed before they are signed.
const PAYLOAD_BYTES_SIGNED_PLAIN: usize = 256;

/// Why bytes are not a signed extrinsic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer than [`limits::EXTRINSIC_BYTES`].
    #[error("the extrinsic has {0} bytes, at most {max} are taken", max = limits::EXTRINSIC_BYTES)]
    TooLong(usize),
    /// The length prefix does not fit.
    #[error("the length prefix of the extrinsic does not match its bytes")]
    Length,
    /// Not `84`, a signed extrinsic of version 4.
    #[error("extrinsic version byte {0:#04x} is not a signed extrinsic of version 4")]
    Version(u8),
    /// Something within is cut short or of a kind that nobody uses.
    #[error("the extrinsic's {0} cannot be decoded")]
    Part(&'static str),
    /// A kind of key that this devnet cannot check.
    #[error("signatures of kind {0} are not implemented, only ed25519 (0) and sr25519 (1)")]
    Scheme(u8),
}

/// For how long an extrinsic is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// For ever.
    Immortal,
    /// For `period` blocks from each block that is `phase` modulo `period`.
    Mortal {
        /// A power of two, 4 to 65536.
        period: u64,
        /// Below `period`.
        phase: u64,
    },
}

impl Era {
    /// Reads one or two bytes.
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let first = u8::decode(bytes).ok()?;
        if first == 0 {
            return Some(Self::Immortal);
        }
        let encoded = u64::from(u16::from_le_bytes([first, u8::decode(bytes).ok()?]));
        let period = 2_u64 << (encoded % 16);
        let phase = (encoded >> 4) * (period >> 12).max(1);
        (period >= 4 && phase < period).then_some(Self::Mortal { period, phase })
    }

    /// The block whose hash is signed, seen from a block.
    pub fn birth(self, block: u32) -> u32 {
        match self {
            Self::Immortal => 0,
            Self::Mortal { period, phase } => {
                let block = u64::from(block);
                let birth = (block.max(phase) - phase) / period * period + phase;
                u32::try_from(birth).unwrap_or(u32::MAX)
            }
        }
    }

    /// The first block in which the extrinsic is no longer valid, seen from a block.
    pub fn death(self, block: u32) -> u32 {
        match self {
            Self::Immortal => u32::MAX,
            Self::Mortal { period, .. } => {
                self.birth(block).saturating_add(u32::try_from(period).expect("a period is at most 65536"))
            }
        }
    }
}

/// How an extrinsic is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Ed25519,
    Sr25519,
}

/// A signed extrinsic, taken apart.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The hash of all bytes, length prefix included: its name in pool and blocks.
    pub hash: Hash,
    /// All bytes, length prefix included.
    pub bytes: Vec<u8>,
    /// Who signed.
    pub signer: [u8; 32],
    /// How long it is valid.
    pub era: Era,
    /// The signer's count.
    pub nonce: u32,
    /// What the signer adds to the fee, in rao.
    pub tip: u64,
    /// The call's bytes.
    pub call: Vec<u8>,
    scheme: Scheme,
    signature: [u8; 64],
    extra: Vec<u8>,
}

impl Signed {
    /// Takes an extrinsic apart.
    pub fn decode(runtime: &Runtime, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > limits::EXTRINSIC_BYTES {
            return Err(Error::TooLong(bytes.len()));
        }
        let mut rest = bytes;
        let length = Compact::<u32>::decode(&mut rest).map_err(|_source| Error::Length)?.0;
        if usize::try_from(length) != Ok(rest.len()) {
            return Err(Error::Length);
        }
        let (version, address) = <(u8, u8)>::decode(&mut rest).map_err(|_source| Error::Length)?;
        const SIGNED_V4: u8 = 0x84;
        if version != SIGNED_V4 {
            return Err(Error::Version(version));
        }
        const ADDRESS_ID: u8 = 0;
        if address != ADDRESS_ID {
            return Err(Error::Part("address"));
        }
        let (signer, scheme) = <([u8; 32], u8)>::decode(&mut rest).map_err(|_source| Error::Part("address"))?;
        let scheme = match scheme {
            0 => Scheme::Ed25519,
            1 => Scheme::Sr25519,
            other => return Err(Error::Scheme(other)),
        };
        let signature = <[u8; 64]>::decode(&mut rest).map_err(|_source| Error::Part("signature"))?;
        let after_signature = rest;
        let (era, nonce, tip) = take_extensions(runtime, &mut rest)?;
        let extra = after_signature[..after_signature.len() - rest.len()].to_vec();
        Ok(Self {
            hash: blake2(bytes),
            bytes: bytes.to_vec(),
            signer,
            era,
            nonce,
            tip,
            call: rest.to_vec(),
            scheme,
            signature,
            extra,
        })
    }

    /// What was signed, for a birth block with this hash.
    pub fn payload(&self, runtime: &Runtime, genesis: &Hash, birth: &Hash) -> Vec<u8> {
        const NO_METADATA_HASH: u8 = 0;
        let version = runtime.version();
        let mut payload = self.call.clone();
        payload.extend(&self.extra);
        payload.extend(version.spec_version.to_le_bytes());
        payload.extend(version.transaction_version.to_le_bytes());
        payload.extend(genesis);
        payload.extend(birth);
        payload.push(NO_METADATA_HASH);
        if payload.len() > PAYLOAD_BYTES_SIGNED_PLAIN {
            return blake2(&payload).to_vec();
        }
        payload
    }

    /// Whether the signer signed exactly this for this chain.
    pub fn is_genuine(&self, runtime: &Runtime, genesis: &Hash, birth: &Hash) -> bool {
        let payload = self.payload(runtime, genesis, birth);
        if self.scheme == Scheme::Ed25519 {
            let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, self.signer);
            return key.verify(&payload, &self.signature).is_ok();
        }
        let key = schnorrkel::PublicKey::from_bytes(&self.signer);
        let signature = schnorrkel::Signature::from_bytes(&self.signature);
        match (key, signature) {
            (Ok(key), Ok(signature)) => key.verify_simple(SIGNING_CONTEXT, &payload, &signature).is_ok(),
            _ => false,
        }
    }
}

/// Reads the bytes of the transaction extensions in the order of the metadata.
fn take_extensions(runtime: &Runtime, rest: &mut &[u8]) -> Result<(Era, u32, u64), Error> {
    let (mut era, mut nonce, mut tip) = (Era::Immortal, 0, 0);
    for (name, id) in runtime.extensions() {
        match name {
            "CheckMortality" => era = Era::take(rest).ok_or(Error::Part("era"))?,
            "CheckNonce" => nonce = Compact::<u32>::decode(rest).map_err(|_source| Error::Part("nonce"))?.0,
            "ChargeTransactionPayment" => {
                tip = Compact::<u64>::decode(rest).map_err(|_source| Error::Part("tip"))?.0;
            }
            "CheckMetadataHash" => {
                // Only `disabled`: a node without the metadata's hash cannot check any other mode either.
                if u8::decode(rest) != Ok(0) {
                    return Err(Error::Part("metadata hash mode"));
                }
            }
            _ => {
                runtime.take_raw(rest, id).ok_or(Error::Part("extensions"))?;
            }
        }
    }
    Ok((era, nonce, tip))
}

/// The bytes of a compact-prefixed extrinsic at the front of other bytes; the rest stays.
pub fn take_opaque<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let whole = *bytes;
    let length = usize::try_from(Compact::<u32>::decode(bytes).ok()?.0).ok()?;
    *bytes = bytes.get(length..)?;
    whole.get(..whole.len() - bytes.len())
}

/// Signs a call; for tests, which need extrinsics that no client would make.
#[cfg(test)]
pub fn sign(
    runtime: &Runtime,
    genesis: &Hash,
    pair: &subxt_signer::sr25519::Keypair,
    call: &[u8],
    nonce: u32,
    era: Option<(u16, Hash)>,
) -> Vec<u8> {
    let mut extra = Vec::new();
    match era {
        None => extra.push(0),
        Some((encoded, _)) => extra.extend(encoded.to_le_bytes()),
    }
    Compact(nonce).encode_to(&mut extra);
    Compact(0_u64).encode_to(&mut extra);
    extra.push(0);
    let signer = pair.public_key().0;
    let mut unsigned = Signed {
        hash: [0; 32],
        bytes: Vec::new(),
        signer,
        era: Era::Immortal,
        nonce,
        tip: 0,
        call: call.to_vec(),
        scheme: Scheme::Sr25519,
        signature: [0; 64],
        extra,
    };
    let birth = era.map_or(*genesis, |(_, birth)| birth);
    unsigned.signature = pair.sign(&unsigned.payload(runtime, genesis, &birth)).0;
    let mut body = vec![0x84, 0];
    body.extend(signer);
    body.push(1);
    body.extend(unsigned.signature);
    body.extend(&unsigned.extra);
    body.extend(call);
    body.encode()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::devnet::testkit::vectors;

    fn bytes(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap()
    }

    #[test]
    fn recorded_extrinsics_come_apart_as_recorded() {
        let runtime = Runtime::embedded().unwrap();
        let vectors = vectors(439);
        let recorded = vectors["extrinsics"].as_array().unwrap();
        assert_eq!(recorded.len(), 2);
        for recorded in recorded {
            let signed = Signed::decode(&runtime, &bytes(&recorded["extrinsic_hex"])).unwrap();
            assert_eq!(signed.hash.to_vec(), bytes(&recorded["extrinsic_hash"]));
            assert_eq!(signed.signer.to_vec(), bytes(&recorded["public_key_hex"]));
            assert_eq!(signed.signature.to_vec(), bytes(&recorded["signature_hex"]));
            assert_eq!(signed.call, bytes(&recorded["call_data_hex"]));
            assert_eq!(u64::from(signed.nonce), recorded["nonce"].as_u64().unwrap());
            assert_eq!(signed.tip, recorded["tip"].as_u64().unwrap());
            match signed.era {
                Era::Immortal => assert_eq!(recorded["era"], "00"),
                era => assert_eq!((era, era.birth(282)), (Era::Mortal { period: 64, phase: 282 % 64 }, 282)),
            }
        }
    }

    #[test]
    fn recorded_payloads_are_reproduced_byte_for_byte() {
        let runtime = Runtime::embedded().unwrap();
        let vectors = vectors(439);
        let genesis: Hash = bytes(&vectors["network"]["genesis_hash"]).try_into().unwrap();
        for (at, birth) in
            [(0, genesis), (1, bytes(&vectors["signature_payloads"][1]["era_birth_block_hash"]).try_into().unwrap())]
        {
            let recorded = &vectors["signature_payloads"][at];
            // The recorded extrinsics differ from the recorded payloads in their nonce alone.
            let mut signed = Signed::decode(&runtime, &bytes(&vectors["extrinsics"][at]["extrinsic_hex"])).unwrap();
            let nonce_at = signed.extra.len() - 3;
            signed.extra[nonce_at] = u8::try_from(recorded["nonce"].as_u64().unwrap()).unwrap() << 2;
            assert_eq!(signed.payload(&runtime, &genesis, &birth), bytes(&recorded["payload_hex"]));
        }
    }

    #[test]
    fn a_recorded_signature_verifies_and_no_other_chain_accepts_it() {
        let runtime = Runtime::embedded().unwrap();
        let vectors = vectors(439);
        let genesis: Hash = bytes(&vectors["network"]["genesis_hash"]).try_into().unwrap();
        let included = bytes(&vectors["block"]["raw"]["block"]["extrinsics"][2]);
        let mut signed = Signed::decode(&runtime, &included).unwrap();
        assert_eq!(signed.era, Era::Immortal);
        assert!(signed.is_genuine(&runtime, &genesis, &genesis));
        assert!(!signed.is_genuine(&runtime, &[1; 32], &genesis));
        assert!(!signed.is_genuine(&runtime, &genesis, &[1; 32]));
        signed.call[3] ^= 1;
        assert!(!signed.is_genuine(&runtime, &genesis, &genesis));
    }

    #[test]
    fn an_ed25519_signature_counts_as_much() {
        use ring::signature::KeyPair as _;
        let runtime = Runtime::embedded().unwrap();
        let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let signer: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
        let genesis = [3; 32];
        let template = sign(&runtime, &genesis, &subxt_signer::sr25519::dev::alice(), &[0, 0, 0], 5, None);
        let mut signed = Signed::decode(&runtime, &template).unwrap();
        let signature = pair.sign(&signed.payload(&runtime, &genesis, &genesis));
        let mut body = vec![0x84, 0];
        body.extend(signer);
        body.push(0);
        body.extend(signature.as_ref());
        body.extend(&signed.extra);
        body.extend(&signed.call);
        signed = Signed::decode(&runtime, &body.encode()).unwrap();
        assert!(signed.is_genuine(&runtime, &genesis, &genesis));
        signed.nonce += 1;
        signed.extra[1] ^= 4;
        assert!(!signed.is_genuine(&runtime, &genesis, &genesis));
        body[34] = 2;
        assert_eq!(Signed::decode(&runtime, &body.encode()).unwrap_err(), Error::Scheme(2));
    }

    #[test]
    fn an_era_is_born_once_per_period_and_dies_after_it() {
        let era = Era::take(&mut &[0x95, 0x01][..]).unwrap();
        let Era::Mortal { period, phase } = era else { panic!("a mortal era") };
        assert_eq!(period, 64);
        for block in [phase as u32, phase as u32 + 63] {
            assert_eq!((era.birth(block), era.death(block)), (phase as u32, phase as u32 + 64));
        }
        assert_eq!(era.birth(phase as u32 + 64), phase as u32 + 64);
        assert_eq!(Era::Immortal.death(7), u32::MAX);
        assert_eq!(Era::take(&mut &[1][..]), None);
    }

    #[test]
    fn hostile_bytes_are_errors() {
        let runtime = Runtime::embedded().unwrap();
        let good = bytes(&vectors(439)["extrinsics"][0]["extrinsic_hex"]);
        for cut in 0..good.len() {
            assert!(Signed::decode(&runtime, &good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let _either = Signed::decode(&runtime, &bad);
        }
        let long = vec![0; limits::EXTRINSIC_BYTES + 1];
        assert_eq!(Signed::decode(&runtime, &long).unwrap_err(), Error::TooLong(long.len()));
    }
}
