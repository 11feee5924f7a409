//! Tests of committed weights: by hash and by timelock, from the commit to what the epoch makes of them.

use subxt_signer::sr25519::dev;

use super::{commit_reveal::Shown, tests::*, *};
use crate::{
    chain::timelock::{Weights, commitment_content, commitment_plaintext},
    devnet::{
        call::Call,
        chain::{Chain, Invalid},
        items::Item,
        state::key,
        testkit::{act, blocks, call_bytes, chain_with_beacon, key_of, populate, submit},
    },
};

/// Subnet 1 with commit-reveal; its epochs run every 20 blocks, the first at block 21. Bob (uid 1) validates.
fn committing() -> Chain {
    committing_on(439)
}

fn committing_on(spec: u32) -> Chain {
    let mut chain = populate(chain_with_beacon(spec));
    act(&mut chain, |world| {
        world.state.put(Item::CommitRevealEnabled, key![1_u16], &true);
        world.state.put(Item::Tempo, key![1_u16], &20_u16);
        Ok(())
    });
    chain
}

fn bob() -> [u8; 32] {
    key_of(&dev::bob())
}

fn shown(values: &[u16]) -> Shown {
    Shown { uids: vec![0, 2], values: values.to_vec(), salt: vec![1, 2, 3], version_key: 0 }
}

fn commit(shown: &Shown) -> Call {
    Call::CommitWeights(commit_reveal::Commit { netuid: 1, mecid: 0, hash: shown.hash(&bob(), 1) })
}

fn reveal(shown: &Shown) -> Call {
    Call::RevealWeights(commit_reveal::Reveal { netuid: 1, mecid: 0, shown: shown.clone() })
}

fn updated(chain: &Chain, uid: usize) -> u64 {
    chain.state(chain.best()).get::<Vec<u64>>(Item::LastUpdate, key![1_u16])[uid]
}

fn epoch(chain: &Chain) -> u64 {
    chain.state(chain.best()).get(Item::SubnetEpochIndex, key![1_u16])
}

#[test]
fn commits_are_refused_in_the_order_of_the_chain() {
    let mut chain = committing();
    let call = |netuid, mecid| Call::CommitWeights(commit_reveal::Commit { netuid, mecid, hash: [1; 32] });
    let expect = |chain: &Chain, signer, call: Call, error| assert_eq!(error_of(attempt(chain, signer, &call)), error);
    set_number(&mut chain, Item::WeightsSetRateLimit, 1, 1000);
    let stranger = key_of(&dev::dave());
    expect(&chain, stranger, call(9, 0), "MechanismDoesNotExist");
    expect(&chain, stranger, call(1, 1), "MechanismDoesNotExist");
    act(&mut chain, |world| {
        world.state.put(Item::CommitRevealEnabled, key![1_u16], &false);
        Ok(())
    });
    expect(&chain, stranger, call(1, 0), "CommitRevealDisabled");
    expect(&chain, stranger, reveal(&shown(&[1, 2])), "CommitRevealDisabled");
    act(&mut chain, |world| {
        world.state.put(Item::CommitRevealEnabled, key![1_u16], &true);
        Ok(())
    });
    expect(&chain, stranger, call(1, 0), "HotKeyNotRegisteredInSubNet");
    expect(&chain, bob(), call(1, 0), "CommittingWeightsTooFast");
    set_number(&mut chain, Item::WeightsSetRateLimit, 1, 0);
    until(&mut chain, 22);
    for _ in 0..10 {
        execute(&mut chain, bob(), &call(1, 0));
    }
    expect(&chain, bob(), call(1, 0), "TooManyUnrevealedCommits");
    // Two epochs later all of them have expired.
    until(&mut chain, 61);
    execute(&mut chain, bob(), &call(1, 0));
    let open: Vec<commit_reveal::Stored> =
        chain.state(chain.best()).get_or_default(Item::WeightCommits, key![1_u16, &bob()]);
    assert_eq!(open, [([1; 32], 3, 62, 0)]);
}

#[test]
fn a_commit_is_revealed_in_the_next_epoch_only_and_takes_the_older_ones_with_it() {
    let mut chain = committing();
    until(&mut chain, 30);
    let (older, newer) = (shown(&[1, 1]), shown(&[1, 2]));
    execute(&mut chain, bob(), &commit(&older));
    execute(&mut chain, bob(), &commit(&newer));
    assert_eq!((updated(&chain, 1), epoch(&chain)), (32, 1));
    assert_eq!(error_of(attempt(&chain, bob(), &reveal(&newer))), "RevealTooEarly");
    assert_eq!(error_of(attempt(&chain, bob(), &reveal(&shown(&[9, 9])))), "InvalidRevealCommitHashNotMatch");
    assert_eq!(error_of(attempt(&chain, key_of(&dev::charlie()), &reveal(&newer))), "NoWeightsCommitFound");
    // The epoch runs in block 41, before its extrinsics.
    until(&mut chain, 39);
    attempt(&chain, bob(), &reveal(&newer)).unwrap_err();
    blocks(&mut chain, 1);
    execute(&mut chain, bob(), &reveal(&newer));
    assert_eq!(row(&chain, 1), [(0, 32_768), (2, 65_535)]);
    // A reveal is no update; the older commit is gone.
    assert_eq!(updated(&chain, 1), 32);
    assert_eq!(error_of(attempt(&chain, bob(), &reveal(&older))), "NoWeightsCommitFound");
}

#[test]
fn a_commit_expires_after_its_epoch() {
    let mut chain = committing();
    until(&mut chain, 30);
    execute(&mut chain, bob(), &commit(&shown(&[1, 2])));
    until(&mut chain, 60);
    attempt(&chain, bob(), &reveal(&shown(&[1, 2]))).unwrap_err();
    assert_eq!(error_of(attempt(&chain, bob(), &reveal(&shown(&[1, 2])))), "ExpiredWeightCommit");
    assert_eq!(error_of(attempt(&chain, bob(), &reveal(&shown(&[2, 2])))), "NoWeightsCommitFound");
}

#[test]
fn a_reveal_that_breaks_a_rule_of_weights_keeps_its_commit() {
    let mut chain = committing();
    until(&mut chain, 30);
    let bad = Shown { uids: vec![7], ..shown(&[1]) };
    execute(&mut chain, bob(), &commit(&bad));
    until(&mut chain, 41);
    assert_eq!(error_of(attempt(&chain, bob(), &reveal(&bad))), "UidVecContainInvalidOne");
    assert!(chain.state(chain.best()).has(Item::WeightCommits, key![1_u16, &bob()]));
}

#[test]
fn a_commit_in_the_block_of_a_deferred_epoch_belongs_to_that_epoch() {
    let mut chain = committing();
    until(&mut chain, 30);
    act(&mut chain, |world| {
        world.state.put(Item::MaxEpochsPerBlock, &[], &0_u8);
        Ok(())
    });
    until(&mut chain, 40);
    // Block 41 puts the epoch off; what happens in it counts as of the next one already.
    execute(&mut chain, bob(), &commit(&shown(&[1, 2])));
    let open: Vec<commit_reveal::Stored> = chain.state(41).get_or_default(Item::WeightCommits, key![1_u16, &bob()]);
    assert_eq!((epoch(&chain), open[0].1), (1, 2));
}

#[test]
fn batches_of_reveals_are_all_or_none() {
    let mut chain = committing();
    until(&mut chain, 30);
    let (one, two) = (shown(&[1, 1]), shown(&[1, 2]));
    execute(&mut chain, bob(), &commit(&one));
    execute(&mut chain, bob(), &commit(&two));
    let batch = |shown: &[&Shown]| {
        Call::BatchRevealWeights(commit_reveal::BatchReveal {
            netuid: 1,
            uids: shown.iter().map(|shown| shown.uids.clone()).collect(),
            values: shown.iter().map(|shown| shown.values.clone()).collect(),
            salts: shown.iter().map(|shown| shown.salt.clone()).collect(),
            version_keys: shown.iter().map(|shown| shown.version_key).collect(),
        })
    };
    assert_eq!(error_of(attempt(&chain, bob(), &batch(&[&one, &two]))), "RevealTooEarly");
    until(&mut chain, 41);
    let other = shown(&[7, 7]);
    assert_eq!(error_of(attempt(&chain, bob(), &batch(&[&one, &other]))), "InvalidRevealCommitHashNotMatch");
    let Call::BatchRevealWeights(mut uneven) = batch(&[&one]) else { panic!("a batch") };
    uneven.salts.clear();
    assert_eq!(error_of(attempt(&chain, bob(), &Call::BatchRevealWeights(uneven))), "InputLengthsUnequal");
    execute(&mut chain, bob(), &batch(&[&two, &one]));
    assert_eq!(row(&chain, 1), [(0, 65_535), (2, 65_535)]);
    assert!(!chain.state(chain.best()).has(Item::WeightCommits, key![1_u16, &bob()]));
}

#[test]
fn batches_over_subnets_keep_what_succeeds() {
    let mut chain = committing();
    until(&mut chain, 30);
    let hashes = vec![[1; 32], [2; 32]];
    execute(&mut chain, bob(), &Call::BatchCommitWeights { netuids: vec![9, 1], hashes: hashes.clone() });
    assert!(chain.state(chain.best()).has(Item::WeightCommits, key![1_u16, &bob()]));
    let uneven = Call::BatchCommitWeights { netuids: vec![1], hashes };
    assert_eq!(error_of(attempt(&chain, bob(), &uneven)), "InputLengthsUnequal");
    let set =
        Call::BatchSetWeights(weights::Batch { netuids: vec![1], rows: vec![vec![(0, 1)]], version_keys: vec![0] });
    execute(&mut chain, bob(), &set);
    assert_eq!(row(&chain, 1), []);
    act(&mut chain, |world| {
        world.state.put(Item::CommitRevealEnabled, key![1_u16], &false);
        Ok(())
    });
    execute(&mut chain, bob(), &set);
    assert_eq!(row(&chain, 1), [(0, 65_535)]);
}

#[test]
fn the_pool_knows_reveals_commits_and_rounds_by_number() {
    let mut chain = committing();
    until(&mut chain, 30);
    let guard =
        |chain: &Chain, call: &Call| World::new(chain.state(chain.best()), chain.best() + 1).guard(&bob(), call);
    assert_eq!(guard(&chain, &reveal(&shown(&[1, 2]))), Err(16));
    execute(&mut chain, bob(), &commit(&shown(&[1, 2])));
    assert_eq!(guard(&chain, &reveal(&shown(&[1, 2]))), Err(17));
    assert_eq!(guard(&chain, &Call::BatchCommitWeights { netuids: vec![1], hashes: vec![] }), Err(18));
    set_number(&mut chain, Item::WeightsSetRateLimit, 1, 1000);
    assert_eq!(guard(&chain, &commit(&shown(&[1, 2]))), Err(6));
    let last: u64 = chain.state(chain.best()).get(Item::LastStoredRound, &[]);
    assert_eq!(guard(&chain, &timelocked(b"", last - 1, 4)), Err(15));
    // A commit by timelock that comes too soon is refused by the call alone, as on chain.
    assert_eq!(guard(&chain, &timelocked(b"", last, 4)), Ok(()));
    assert_eq!(error_of(attempt(&chain, bob(), &timelocked(b"", last, 4))), "CommittingWeightsTooFast");
    set_threshold(&mut chain, u64::MAX);
    assert_eq!(guard(&chain, &timelocked(b"", 0, 4)), Err(1));
}

fn timelocked(ciphertext: &[u8], round: u64, version: u16) -> Call {
    let ciphertext = ciphertext.to_vec();
    Call::CommitTimelocked(timelock::Commit { netuid: 1, mecid: 0, ciphertext, round, version: Some(version) })
}

/// Bob's weights, or what he says they are, sealed to a round of the chain's own beacon.
fn sealed(chain: &Chain, round: u64, weights: &Weights) -> Call {
    let beacon = drand::beacon(&chain.state(chain.best())).unwrap();
    timelocked(&beacon.seal(round, &weights.encode(), [5; 32]).unwrap(), round, 4)
}

fn weights_of(hotkey: Option<[u8; 32]>, values: &[u16]) -> Weights {
    Weights { hotkey, uids: vec![0, 2], values: values.to_vec(), version_key: 0 }
}

/// How many of Bob's commits wait in all epochs.
fn waiting(chain: &Chain) -> usize {
    let state = chain.state(chain.best());
    timelock::epochs(&state, 1).into_iter().map(|epoch| timelock::stored(&state, 1, epoch).len()).sum()
}

#[test]
fn the_beacon_has_a_round_for_every_block_and_begins_with_the_chain() {
    let mut chain = committing();
    let state = chain.state(chain.best());
    let last: u64 = state.get(Item::LastStoredRound, &[]);
    assert_eq!((last, state.get::<u64>(Item::OldestStoredRound, &[])), (chain.best().into(), 1));
    let beacon = drand::beacon(&state).unwrap();
    for round in 1..=last {
        assert!(beacon.verify(round, &drand::signature(&state, round).unwrap()));
    }
    assert_eq!(drand::signature(&state, last + 1), None);
    // A jump of a year makes the rounds that are kept, a bounded number in each block.
    let now: u64 = state.get(Item::Now, &[]);
    chain.set_next_time(now + 365 * 86_400_000).unwrap();
    blocks(&mut chain, 1);
    let state = chain.state(chain.best());
    let after: u64 = state.get(Item::LastStoredRound, &[]);
    let first = after - crate::devnet::limits::PULSES_PER_BLOCK + 1;
    assert!(first > last + 2_000_000, "{first}");
    assert!(drand::signature(&state, first).is_some() && drand::signature(&state, first - 1).is_none());
}

#[test]
fn timelocked_weights_are_opened_by_the_chain_in_the_next_epoch() {
    let mut chain = committing();
    until(&mut chain, 30);
    let call = sealed(&chain, 38, &weights_of(Some(bob()), &[1, 2]));
    execute(&mut chain, bob(), &call);
    assert_eq!((updated(&chain, 1), waiting(&chain)), (31, 1));
    until(&mut chain, 40);
    assert_eq!((row(&chain, 1).len(), waiting(&chain)), (0, 1));
    blocks(&mut chain, 1);
    assert_eq!((row(&chain, 1), waiting(&chain)), (vec![(0, 32_768), (2, 65_535)], 0));
    // The epoch of the very same block counts them already.
    let incentive: Vec<u16> = chain.state(chain.best()).get(Item::Incentive, key![1_u16]);
    assert_eq!(incentive, [21_845, 0, 43_689]);
    assert_eq!(updated(&chain, 1), 31);
}

#[test]
fn a_round_that_comes_late_is_waited_for_within_its_epoch() {
    let mut chain = committing();
    until(&mut chain, 30);
    let call = sealed(&chain, 50, &weights_of(Some(bob()), &[1, 2]));
    execute(&mut chain, bob(), &call);
    until(&mut chain, 50);
    assert_eq!((row(&chain, 1).len(), waiting(&chain)), (0, 1));
    // Round 50 is written in block 50; the reveals of block 51 are the first to see it.
    blocks(&mut chain, 1);
    assert_eq!((row(&chain, 1).len(), waiting(&chain)), (2, 0));
    // One that comes after the epoch is lost.
    let call = sealed(&chain, 90, &weights_of(Some(bob()), &[5, 5]));
    execute(&mut chain, bob(), &call);
    until(&mut chain, 80);
    assert_eq!(waiting(&chain), 1);
    blocks(&mut chain, 1);
    assert_eq!((row(&chain, 1), waiting(&chain)), (vec![(0, 32_768), (2, 65_535)], 0));
}

#[test]
fn what_cannot_be_opened_is_dropped_without_a_word_and_the_rest_is_opened() {
    let mut chain = committing();
    until(&mut chain, 30);
    let charlie = key_of(&dev::charlie());
    let good = weights_of(Some(bob()), &[1, 2]);
    let Call::CommitTimelocked(other_round) = sealed(&chain, 36, &good) else { panic!("a commit") };
    let bad_rows = Weights { uids: vec![0, 7], ..good.clone() };
    for call in [
        timelocked(b"not a ciphertext", 35, 4),
        Call::CommitTimelocked(timelock::Commit { round: 35, ..other_round }),
        sealed(&chain, 35, &weights_of(Some(charlie), &[3, 3])),
        sealed(&chain, 35, &bad_rows),
        // The old form of the plaintext, without a hotkey.
        sealed(&chain, 35, &weights_of(None, &[1, 3])),
    ] {
        execute(&mut chain, bob(), &call);
    }
    assert_eq!(waiting(&chain), 5);
    until(&mut chain, 41);
    assert_eq!((row(&chain, 1), waiting(&chain)), (vec![(0, 21_845), (2, 65_535)], 0));
}

#[test]
fn timelocked_commits_are_refused_in_the_order_of_the_chain() {
    let mut chain = committing();
    until(&mut chain, 22);
    let stranger = key_of(&dev::dave());
    let missing = Call::CommitTimelocked(timelock::Commit {
        netuid: 9,
        mecid: 0,
        ciphertext: vec![],
        round: 50,
        version: Some(3),
    });
    assert_eq!(error_of(attempt(&chain, stranger, &missing)), "MechanismDoesNotExist");
    assert_eq!(error_of(attempt(&chain, stranger, &timelocked(b"", 50, 3))), "IncorrectCommitRevealVersion");
    assert_eq!(error_of(attempt(&chain, stranger, &timelocked(b"", 50, 4))), "HotKeyNotRegisteredInSubNet");
    for _ in 0..10 {
        execute(&mut chain, bob(), &timelocked(b"", 90, 4));
    }
    assert_eq!(error_of(attempt(&chain, bob(), &timelocked(b"", 90, 4))), "TooManyUnrevealedCommits");
    act(&mut chain, |world| {
        world.state.put(Item::CommitRevealEnabled, key![1_u16], &false);
        Ok(())
    });
    assert_eq!(error_of(attempt(&chain, stranger, &timelocked(b"", 50, 3))), "CommitRevealDisabled");
}

#[test]
fn whom_a_commit_cannot_have_meant_gets_no_weight_from_it() {
    let mut chain = committing();
    until(&mut chain, 30);
    let call = sealed(&chain, 38, &weights_of(Some(bob()), &[1, 2]));
    execute(&mut chain, bob(), &call);
    // Somebody else takes uid 2 between the commit and the epoch.
    act(&mut chain, |world| {
        let now = world.now();
        world.state.put(Item::BlockAtRegistration, key![1_u16, 2_u16], &now);
        Ok(())
    });
    until(&mut chain, 41);
    assert_eq!(row(&chain, 1).len(), 2);
    let incentive: Vec<u16> = chain.state(chain.best()).get(Item::Incentive, key![1_u16]);
    assert_eq!(incentive, [65_535, 0, 0]);
}

fn commitment(fields: &[Vec<u8>]) -> Call {
    let mut bytes = vec![u8::try_from(fields.len() << 2).unwrap()];
    fields.iter().for_each(|field| bytes.extend(field));
    Call::SetCommitment { netuid: 1, info: commitments::Info::read(&bytes).unwrap() }
}

fn locked(chain: &Chain, round: u64, text: &[u8]) -> Vec<u8> {
    use parity_scale_codec::Encode as _;
    let beacon = drand::beacon(&chain.state(chain.best())).unwrap();
    (134_u8, beacon.seal(round, &commitment_plaintext(text), [5; 32]).unwrap(), round).encode()
}

fn revealed(chain: &Chain, hotkey: &[u8; 32]) -> Vec<(String, u64)> {
    let state = chain.state(chain.best());
    let stored: Vec<(Vec<u8>, u64)> = state.get_or_default(Item::RevealedCommitments, key![1_u16, hotkey]);
    let text = |plaintext: Vec<u8>| String::from_utf8(commitment_content(&plaintext).unwrap()).unwrap();
    stored.into_iter().map(|(plaintext, block)| (text(plaintext), block)).collect()
}

fn indexed(chain: &Chain) -> usize {
    chain.state(chain.best()).get::<Vec<(u16, [u8; 32])>>(Item::TimelockedIndex, &[]).len()
}

#[test]
fn a_timelocked_field_is_opened_when_its_round_comes_and_plain_fields_stay() {
    let mut chain = committing();
    until(&mut chain, 30);
    let fields = [vec![3, 7, 7], locked(&chain, 40, b"first"), locked(&chain, 45, b"second")];
    execute(&mut chain, bob(), &commitment(&fields));
    let block = chain.best();
    until(&mut chain, 40);
    assert_eq!((revealed(&chain, &bob()), indexed(&chain)), (vec![], 1));
    blocks(&mut chain, 1);
    assert_eq!((revealed(&chain, &bob()), indexed(&chain)), (vec![("first".to_owned(), 41)], 1));
    until(&mut chain, 46);
    assert_eq!(revealed(&chain, &bob())[1], ("second".to_owned(), 46));
    assert_eq!(indexed(&chain), 0);
    let world = World::new(chain.state(chain.best()), chain.best() + 1);
    let (stored, info) = commitments::stored(&world, 1, &bob()).unwrap();
    assert_eq!((stored, info.bytes()), (block, vec![4, 3, 7, 7]));
    // One that is nothing but timelocked goes altogether.
    let call = commitment(&[locked(&chain, 48, b"third")]);
    execute(&mut chain, bob(), &call);
    until(&mut chain, 49);
    assert!(!chain.state(chain.best()).has(Item::CommitmentOf, key![1_u16, &bob()]));
    assert_eq!(revealed(&chain, &bob()).len(), 3);
}

#[test]
fn the_last_ten_openings_are_kept_and_failures_leave_nothing() {
    let mut chain = committing();
    until(&mut chain, 30);
    for at in 0..12_u64 {
        let round = u64::from(chain.best()) + 1;
        let call = commitment(&[locked(&chain, round, format!("number {at}").as_bytes())]);
        execute(&mut chain, bob(), &call);
        blocks(&mut chain, 1);
    }
    let revealed = revealed(&chain, &bob());
    assert_eq!((revealed.len(), revealed[0].0.as_str(), revealed[9].0.as_str()), (10, "number 2", "number 11"));
    use parity_scale_codec::Encode as _;
    let garbage = (134_u8, b"garbage".to_vec(), 1_u64).encode();
    execute(&mut chain, bob(), &commitment(&[garbage]));
    blocks(&mut chain, 1);
    assert!(!chain.state(chain.best()).has(Item::CommitmentOf, key![1_u16, &bob()]));
    assert_eq!(indexed(&chain), 0);
}

#[test]
fn later_runtimes_mark_what_they_cannot_open_and_nobody_else_may() {
    use parity_scale_codec::Encode as _;
    let mut chain = committing_on(461);
    until(&mut chain, 30);
    let garbage = (134_u8, b"garbage".to_vec(), 1_u64).encode();
    execute(&mut chain, bob(), &commitment(&[vec![2, 7], garbage]));
    blocks(&mut chain, 1);
    let world = World::new(chain.state(chain.best()), chain.best() + 1);
    let (_, info) = commitments::stored(&world, 1, &bob()).unwrap();
    let mark = (137_u8, b"garbage".to_vec(), 1_u64).encode();
    assert_eq!(info.bytes(), [&[8, 2, 7][..], &mark].concat());
    drop(world);
    assert_eq!(indexed(&chain), 0);
    let written = commitment(&[mark]);
    assert_eq!(error_of(attempt(&chain, bob(), &written)), "TimelockRevealFailedNotAllowed");
}

#[test]
fn a_real_pulse_opens_what_the_public_tool_sealed_and_a_false_one_is_refused() {
    let recorded: serde_json::Value =
        serde_json::from_str(include_str!("../../../testdata/chain/timelock.json")).unwrap();
    let bytes = |name: &str| hex::decode(recorded["sealed"][0][name].as_str().unwrap()).unwrap();
    let mut chain = committing();
    until(&mut chain, 30);
    // The tool's wrapper, bytes and round, is exactly what follows the field's kind.
    execute(&mut chain, bob(), &commitment(&[[vec![134], bytes("wrapped_ciphertext")].concat()]));
    blocks(&mut chain, 1);
    let refused = chain.make(crate::devnet::testkit::WALL_MS, |world| drand::inject(world, 1000, &[1; 48]));
    assert!(refused.is_err());
    let refused = chain.make(crate::devnet::testkit::WALL_MS, |world| drand::inject(world, 1001, &bytes("signature")));
    assert!(refused.is_err());
    act(&mut chain, |world| drand::inject(world, 1000, &bytes("signature")));
    blocks(&mut chain, 1);
    let stored: Vec<(Vec<u8>, u64)> =
        chain.state(chain.best()).get_or_default(Item::RevealedCommitments, key![1_u16, &bob()]);
    assert_eq!(stored, [(bytes("plaintext"), u64::from(chain.best()))]);
    // The devnet's own rounds go on as if nothing had happened.
    let last: u64 = chain.state(chain.best()).get(Item::LastStoredRound, &[]);
    assert_eq!(last, u64::from(chain.best()));
}

#[test]
fn committed_weights_go_through_the_pool_as_real_calls() {
    let mut chain = committing();
    until(&mut chain, 30);
    let runtime = std::sync::Arc::clone(chain.runtime());
    let Call::CommitTimelocked(sealed) = sealed(&chain, 38, &weights_of(Some(bob()), &[1, 2])) else {
        panic!("a commit")
    };
    let call = |length: usize| {
        let mut ciphertext = sealed.ciphertext.clone();
        ciphertext.resize(length, 0);
        let fields = vec![Datum::Num(1), Datum::Num(0), Datum::Bytes(ciphertext), Datum::Num(38), Datum::Num(4)];
        call_bytes(&runtime, "SubtensorModule", "commit_timelocked_mechanism_weights", fields)
    };
    let too_long = submit(&mut chain, &dev::bob(), &call(5001)).unwrap_err();
    assert!(matches!(too_long, Invalid::Call(crate::devnet::call::Error::Arguments(_))));
    // The longest that the chain takes; what lies behind the ciphertext is ignored.
    submit(&mut chain, &dev::bob(), &call(5000)).unwrap();
    until(&mut chain, 41);
    assert_eq!(row(&chain, 1).len(), 2);
    let hash = shown(&[1, 2]).hash(&bob(), 1);
    let fields = vec![Datum::Num(1), Datum::Num(0), Datum::account(&hash)];
    let call = call_bytes(&runtime, "SubtensorModule", "commit_mechanism_weights", fields);
    submit(&mut chain, &dev::bob(), &call).unwrap();
    until(&mut chain, 61);
    let list = |values: &[u16]| Datum::numbers(values.iter().copied());
    let fields = vec![Datum::Num(1), list(&[0, 2]), list(&[1, 2]), list(&[1, 2, 3]), Datum::Num(0)];
    let call = call_bytes(&runtime, "SubtensorModule", "reveal_weights", fields);
    submit(&mut chain, &dev::bob(), &call).unwrap();
    blocks(&mut chain, 1);
    assert!(!chain.state(chain.best()).has(Item::WeightCommits, key![1_u16, &bob()]));
}
