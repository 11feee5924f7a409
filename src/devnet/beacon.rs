//! The devnet's own beacon: a key that everybody can know, and signatures of its rounds.
//!
//! Owns the secret, which comes from the devnet's seed, and what is published about it. Refuses to know when a round
//! is due. The rules of `devnet/` use it.

use ark_ec::Group as _;
use ark_ff::PrimeField as _;
use ark_serialize::CanonicalSerialize as _;
use timelock::{curves::drand::TinyBLS381, tlock::EngineBLS};

use super::{datum::Datum, hashing::blake2};
use crate::chain::timelock::{KEY_BYTES, SIGNATURE_BYTES, identity};

type Scalar = <TinyBLS381 as EngineBLS>::Scalar;
type PublicKey = <TinyBLS381 as EngineBLS>::PublicKeyGroup;

/// The scheme's name: that of quicknet.
const SCHEME: &[u8] = b"bls-unchained-g1-rfc9380";
/// The beacon's name.
const NAME: &[u8] = b"waag-devnet";

/// The devnet's own beacon.
pub struct Own {
    secret: Scalar,
    key: [u8; KEY_BYTES],
    period_s: u32,
}

impl Own {
    /// The beacon of a seed, with a round every `period_s`.
    pub fn new(seed: &[u8; 32], period_s: u32) -> Self {
        let secret = Scalar::from_be_bytes_mod_order(&blake2(&[&b"waag devnet beacon"[..], seed].concat()));
        let mut key = Vec::with_capacity(KEY_BYTES);
        let written = (PublicKey::generator() * secret).serialize_compressed(&mut key);
        written.expect("writing to memory does not fail");
        let key = key.try_into().expect("a compressed key has its size");
        Self { secret, key, period_s: period_s.max(1) }
    }

    /// The public key's bytes.
    pub const fn key(&self) -> &[u8; KEY_BYTES] {
        &self.key
    }

    /// The signature of a round.
    pub fn sign(&self, round: u64) -> [u8; SIGNATURE_BYTES] {
        let signature = identity(round).extract::<TinyBLS381>(self.secret).0;
        let mut bytes = Vec::with_capacity(SIGNATURE_BYTES);
        signature.serialize_compressed(&mut bytes).expect("writing to memory does not fail");
        bytes.try_into().expect("a compressed signature has its size")
    }

    /// What `Drand.BeaconConfig` says about it, its first round being at this time.
    pub fn config(&self, genesis_s: u64) -> Datum {
        let bytes = |bytes: &[u8]| Datum::Bytes(bytes.to_vec());
        Datum::Struct(vec![
            ("public_key", bytes(&self.key)),
            ("period", Datum::Num(self.period_s.into())),
            ("genesis_time", Datum::Num(u32::try_from(genesis_s).unwrap_or(u32::MAX).into())),
            ("hash", bytes(&blake2(&self.key))),
            ("group_hash", bytes(&blake2(NAME))),
            ("scheme_id", bytes(SCHEME)),
            ("metadata", Datum::Struct(vec![("beacon_id", bytes(NAME))])),
        ])
    }
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Own").field("key", &hex::encode(self.key)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::timelock::{Beacon, open};

    #[test]
    fn what_is_sealed_to_its_rounds_opens_with_its_signatures() {
        let own = Own::new(&[7; 32], 12);
        let beacon = Beacon::new(own.key(), 1_000, 12).unwrap();
        for round in [1, 2, u64::MAX] {
            let signature = own.sign(round);
            assert!(beacon.verify(round, &signature));
            assert!(!Beacon::quicknet().verify(round, &signature));
            let sealed = beacon.seal(round, b"later", [1; 32]).unwrap();
            assert_eq!(open(&sealed, &signature).as_deref(), Ok(&b"later"[..]));
        }
        assert_ne!(Own::new(&[8; 32], 12).key(), own.key());
        assert_eq!(Own::new(&[7; 32], 3).key(), own.key());
    }
}
