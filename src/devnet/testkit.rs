//! What the tests of the devnet share.
//!
//! Owns the recorded vectors and a chain in memory with short ways to fill it. Refuses to be in the product. Only
//! tests use it.

use std::sync::Arc;

use serde_json::Value;
use subxt_signer::sr25519::{Keypair, dev};

use super::{
    chain::{Chain, Config, Invalid},
    extrinsic::sign,
    hashing::Hash,
    rules::{World, registration, subnets},
    runtime::Runtime,
};

/// The vectors recorded from a real node.
pub fn vectors(spec: u32) -> Value {
    let text = match spec {
        439 => include_str!("../../testdata/chain/subtensor-vectors-v439.json"),
        461 => include_str!("../../testdata/chain/subtensor-vectors-v461.json"),
        other => panic!("no vectors of spec {other}"),
    };
    serde_json::from_str(text).unwrap()
}

/// The runtime of a spec version.
pub fn runtime(spec: u32) -> Runtime {
    match spec {
        439 => Runtime::embedded().unwrap(),
        461 => Runtime::of(crate::devnet::Spec::V461).unwrap(),
        other => panic!("no metadata of spec {other}"),
    }
}

/// The wall time of every test's first block.
pub const WALL_MS: u64 = 1_700_000_000_000;

/// The configuration of most tests' chains: without a beacon, which would cost them most of their time.
pub fn config() -> Config {
    Config {
        finality_lag: 2,
        block_ms: 12_000,
        seed: [7; 32],
        keeps_seed: false,
        state_blocks: crate::devnet::limits::STATE_BLOCKS,
        beacon: false,
    }
}

/// A chain in memory.
pub fn chain() -> Chain {
    Chain::new(Arc::new(Runtime::embedded().unwrap()), config())
}

/// A chain in memory with a beacon.
pub fn chain_with_beacon(spec: u32) -> Chain {
    Chain::new(Arc::new(runtime(spec)), Config { beacon: true, ..config() })
}

/// An account.
pub fn key_of(pair: &Keypair) -> [u8; 32] {
    pair.public_key().0
}

/// A subnet of //Alice without commit-reveal and without rate limit.
pub fn wanted() -> subnets::Wanted {
    serde_json::from_value(serde_json::json!({
        "owner": "", "tempo": 100, "weights_set_rate_limit": 0, "commit_reveal": false,
        "burn": 1_000_000_000, "min_burn": 500_000, "immunity_period": 5,
    }))
    .unwrap()
}

/// Makes a block in which something is done first.
pub fn act<T>(chain: &mut Chain, act: impl FnOnce(&mut World<'_>) -> Result<T, String>) -> T {
    chain.make(WALL_MS, act).unwrap().1
}

/// Makes empty blocks, or full ones.
pub fn blocks(chain: &mut Chain, count: u32) {
    (0..count).for_each(|_| drop(chain.make(WALL_MS, |_world| Ok(())).unwrap()));
}

/// A chain with subnet 1 of //Alice (uid 0), and //Bob (uid 1, with permit) and //Charlie (uid 2) registered.
pub fn populated() -> Chain {
    populate(chain())
}

/// The same on a chain of one's own.
pub fn populate(mut chain: Chain) -> Chain {
    act(&mut chain, |world| subnets::create(world, &wanted(), key_of(&dev::alice()), key_of(&dev::alice())));
    for pair in [dev::bob(), dev::charlie()] {
        let key = key_of(&pair);
        act(&mut chain, |world| registration::grant(world, 1, &key, &key).map_err(|failure| format!("{failure:?}")));
    }
    act(&mut chain, |world| subnets::set_permit(world, 1, &key_of(&dev::bob()), true, 1_000_000_000_000));
    chain
}

/// The SCALE bytes of a call by names.
pub fn call_bytes(runtime: &Runtime, pallet: &str, call: &str, fields: Vec<super::datum::Datum>) -> Vec<u8> {
    let inner = super::datum::Datum::tuple(call, fields);
    runtime.encode(&super::datum::Datum::tuple(pallet, vec![inner]), runtime.call_type())
}

/// Signs a call with the signer's next nonce and submits it.
pub fn submit(chain: &mut Chain, pair: &Keypair, call: &[u8]) -> Result<Hash, Invalid> {
    let nonce = chain.next_nonce(&key_of(pair));
    let extrinsic = sign(chain.runtime(), &chain.genesis(), pair, call, nonce, None);
    chain.submit(&extrinsic, None)
}

/// Signs a call with a nonce and an era of choice.
pub fn signed(chain: &Chain, pair: &Keypair, call: &[u8], nonce: u32) -> Vec<u8> {
    sign(chain.runtime(), &chain.genesis(), pair, call, nonce, None)
}

/// `Balances.transfer_keep_alive`.
pub fn transfer(chain: &Chain, to: &Keypair, rao: u64) -> Vec<u8> {
    use super::datum::Datum;
    let to = Datum::tuple("Id", vec![Datum::account(&key_of(to))]);
    call_bytes(chain.runtime(), "Balances", "transfer_keep_alive", vec![to, Datum::Num(rao.into())])
}

/// The names of the events of one extrinsic of the best block, decoded by the metadata.
pub fn events_of(chain: &Chain, extrinsic: u32) -> Vec<String> {
    let runtime = chain.runtime();
    let state = chain.state(chain.best());
    let bytes = state.raw(&state.key(super::items::Item::Events, &[])).unwrap();
    let id = runtime.entry(super::items::Item::Events).value;
    let mut rest = &*bytes;
    let decoded = scale_value::scale::decode_as_type(&mut rest, id, runtime.types()).unwrap();
    assert!(rest.is_empty());
    let records = serde_json::to_value(decoded.remove_context()).unwrap();
    let of_extrinsic = |record: &&Value| {
        record["phase"]["values"][0] == extrinsic || record["phase"]["ApplyExtrinsic"][0] == extrinsic
    };
    let records = records.as_array().unwrap().iter();
    records.filter(of_extrinsic).map(|record| record["event"].to_string()).collect()
}
