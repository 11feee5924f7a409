//! The first block: who has money, who may be root, and what everything hangs from.
//!
//! Owns the genesis state. Refuses to know blocks after it. Only the chain's start uses it.

use subxt_signer::sr25519::dev;

use super::{
    block::{Block, Header, extrinsics_root},
    datum::Datum,
    hashing::{Hash, blake2},
    items::Item,
    rules::{
        World,
        balances::{self, Account, Data},
        subnets,
    },
    runtime::Runtime,
    state::{State, key},
    store::{Changes, Store, root_after},
};

/// What each well-known account has: a million TAO.
const DEV_ACCOUNT_RAO: u64 = 1_000_000_000_000_000;
/// The top bit of an account's flags, which every account of the chain has.
const NEW_LOGIC: u128 = 1 << 127;

/// `//Alice` to `//Ferdie`.
pub fn dev_accounts() -> [[u8; 32]; 6] {
    [dev::alice(), dev::bob(), dev::charlie(), dev::dave(), dev::eve(), dev::ferdie()].map(|pair| pair.public_key().0)
}

/// Who makes every block and gets the fees: `//Alice`.
pub fn author() -> [u8; 32] {
    dev::alice().public_key().0
}

/// The genesis block and its state, the same for the same seed and runtime.
pub fn make(runtime: &Runtime, seed: &[u8; 32]) -> (Block, Changes) {
    let empty = Store::default();
    let mut state = State::at(runtime, &empty, 0);
    state.begin();
    let mut world = World::new(state, 0);
    fill(&mut world, runtime);
    let changes = world.state.finish();
    let origin = blake2(&[&b"waag devnet"[..], seed, &blake2(runtime.v15())].concat());
    let header = Header {
        parent: Hash::default(),
        number: 0,
        state_root: root_after(&origin, &changes),
        extrinsics_root: extrinsics_root(&[]),
        logs: Vec::new(),
    };
    let block = Block { hash: header.hash(), header, body: Some(Vec::new().into()) };
    (block, changes)
}

/// Where a chain keeps the code of its runtime.
const CODE: &[u8] = b":code";

/// Names the runtime to which the state belongs from now on.
pub fn name_runtime(state: &mut State<'_>, runtime: &Runtime) {
    let spec_version = runtime.version().spec_version;
    // In place of the code, which the devnet has not: something that differs whenever the metadata does.
    let code = [&b"waag devnet: no code, but metadata "[..], &blake2(runtime.v15())].concat();
    state.put_raw(CODE.to_vec(), Some(code.into()));
    let name = parity_scale_codec::Encode::encode(&runtime.version().spec_name);
    let upgrade =
        Datum::Struct(vec![("spec_version", Datum::Num(spec_version.into())), ("spec_name", Datum::Encoded(name))]);
    state.put(Item::LastRuntimeUpgrade, &[], &upgrade);
}

fn fill(world: &mut World<'_>, runtime: &Runtime) {
    let state = &mut world.state;
    for account in dev_accounts() {
        let data = Data { free: DEV_ACCOUNT_RAO, reserved: 0, frozen: 0, flags: NEW_LOGIC };
        let account_info = Account { nonce: 0, consumers: 0, providers: 1, sufficients: 0, data };
        state.put(Item::Account, key![&account], &account_info);
    }
    state.put(Item::SudoKey, &[], &author());
    state.put(Item::Authorities, &[], &vec![author()]);
    state.put(Item::NetworksAdded, key![subnets::ROOT], &true);
    state.put(Item::TotalNetworks, &[], &1_u16);
    state.put(Item::MinAllowedWeights, key![subnets::ROOT], &0_u16);
    name_runtime(state, runtime);
    balances::issue(world, DEV_ACCOUNT_RAO * 6);
}
