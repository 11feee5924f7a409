//! Tests of the verdicts on a synthetic corpus.

use super::{
    Fingerprint, Key,
    corpus::{self, Corpus, Entry},
    evidence,
    verdict::{Kind, Relation},
};
use crate::dedup::generate::{Model, disguise::Disguise, rng::Rng, synthetic};

struct World {
    base: Model,
    honest: Vec<(String, Model)>,
    prints: Vec<Fingerprint>,
    base_print: Fingerprint,
    key: Key,
}

impl World {
    fn new(experts: usize) -> Self {
        let key = Key::new([5; 32]);
        let base = synthetic::base(experts, 11);
        let honest = synthetic::honest(&base);
        let prints = honest.iter().map(|(_, model)| model.fingerprint(&key).unwrap()).collect();
        Self { base_print: base.fingerprint(&key).unwrap(), base, honest, prints, key }
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let named = self.honest.iter().zip(&self.prints).enumerate();
        named.map(|(at, ((name, _), print))| Entry { id: name, owner: name, priority: at as u64, print })
    }

    fn corpus(&self) -> Corpus<'_> {
        Corpus::new(&self.base_print, self.entries())
    }
}

fn late(print: &Fingerprint) -> Entry<'_> {
    Entry { id: "late", owner: "late", priority: 1000, print }
}

#[test]
fn honest_fine_tunes_are_never_blamed() {
    for experts in [4, 0] {
        let world = World::new(experts);
        for (at, x) in world.entries().enumerate() {
            for (other, v) in world.entries().enumerate().filter(|(other, _)| *other != at) {
                let corpus = Corpus::new(&world.base_print, [Entry { priority: 0, ..v }]);
                let verdict = corpus.judge(&Entry { priority: 1, ..x });
                assert_eq!(verdict.victim, None, "{} {at} {other} {:?}", x.id, verdict.finding);
            }
        }
        let corpus = world.corpus();
        for x in world.entries() {
            let verdict = corpus.judge(&Entry { priority: 1000, ..x });
            assert_eq!(verdict.victim, None, "{} {:?}", x.id, verdict.finding);
        }
    }
}

#[test]
fn synthetic_runs_have_the_statistics_of_trained_ones() {
    let world = World::new(4);
    let at = |name: &str| world.honest.iter().position(|(own, _)| own == name).unwrap();
    let pair = |x: &str, v: &str| evidence::summary(&world.prints[at(x)], &world.prints[at(v)], &world.base_print);
    let siblings = pair("common4", "common3");
    assert!((0.9..0.98).contains(&siblings.share), "{siblings:?}");
    assert!((0.65..0.93).contains(&siblings.spread), "{siblings:?}");
    let strangers = pair("own1", "own0");
    assert!(strangers.cosine.abs() < 0.1 && strangers.spread < 0.93, "{strangers:?}");
    let adapters = pair("adapter3", "adapter2");
    assert!(adapters.spread < 0.7, "{adapters:?}");
}

#[test]
fn every_disguise_of_every_victim_is_seen_through() {
    for experts in [4, 0] {
        let world = World::new(experts);
        let (corpus, mut rng) = (world.corpus(), Rng::new(3));
        let (mut total, mut missed) = (0, Vec::new());
        for (at, (name, victim)) in world.honest.iter().enumerate().step_by(5) {
            for disguise in Disguise::ALL {
                let other = &world.honest[(at + 1) % world.honest.len()].1;
                let copy = disguise.apply(victim, &world.base, other, &mut rng).fingerprint(&world.key).unwrap();
                let verdict = corpus.judge(&late(&copy));
                total += 1;
                // Of an even mixture either is the victim.
                let is_other = matches!(disguise, Disguise::MergeOther(share) if *share <= 0.5)
                    && verdict.mixed_with.as_ref() == Some(name);
                if verdict.victim.as_ref() != Some(name) && !is_other {
                    missed.push(format!("{disguise:?} of {name}: {:?} {:?}", verdict.victim, verdict.finding));
                }
            }
        }
        assert!(missed.len() * 40 <= total, "{} of {total}: {missed:#?}", missed.len());
    }
}

#[test]
fn a_further_training_is_a_derivative() {
    let world = World::new(4);
    let corpus = world.corpus();
    for (name, victim) in world.honest.iter().take(4) {
        let print = synthetic::further(victim, 0.005, 77).fingerprint(&world.key).unwrap();
        let verdict = corpus.judge(&late(&print));
        assert_eq!(verdict.victim.as_ref(), Some(name));
        assert_eq!(verdict.finding.relation, Relation::Derivative, "{:?}", verdict.finding);
    }
    // An adapter on top of a victim that left those matrices alone, and of one that did not.
    for at in ["part1", "common3"] {
        let victim = &world.honest.iter().find(|(name, _)| name == at).unwrap().1;
        let recipe = synthetic::Recipe {
            seed: 99,
            data: 99,
            common: 0.0,
            size: 0.05,
            rank: Some(4),
            only: synthetic::ATTENTION,
        };
        let print = synthetic::tune(victim, &recipe).fingerprint(&world.key).unwrap();
        let verdict = corpus.judge(&late(&print));
        assert_eq!(verdict.victim.as_deref(), Some(at));
        assert_eq!(verdict.finding.relation, Relation::Derivative, "{at} {:?}", verdict.finding);
    }
}

#[test]
fn disguises_are_called_by_their_names() {
    let world = World::new(4);
    let (corpus, mut rng) = (world.corpus(), Rng::new(8));
    let mut kind = |disguise: Disguise| {
        let other = &world.honest[1].1;
        let copy = disguise.apply(&world.honest[0].1, &world.base, other, &mut rng).fingerprint(&world.key).unwrap();
        corpus.judge(&late(&copy)).finding.kind
    };
    assert_eq!(kind(Disguise::Repack), Kind::Repacked);
    assert_eq!(kind(Disguise::Layout), Kind::Repacked);
    assert_eq!(kind(Disguise::Dummy), Kind::Padded);
    assert_eq!(kind(Disguise::Ulp(0.1)), Kind::LastBit);
    assert_eq!(kind(Disguise::Relative(1e-2)), Kind::RelativeNoise);
    assert_eq!(kind(Disguise::Even(1.0)), Kind::EvenNoise);
    assert_eq!(kind(Disguise::Experts), Kind::ExpertsReordered);
    assert_eq!(kind(Disguise::Residual), Kind::Reordered);
    assert_eq!(kind(Disguise::AllScales), Kind::Rescaled);
    assert_eq!(kind(Disguise::MergeBase(0.7)), Kind::MergedWithBase);
    assert_eq!(kind(Disguise::MergeOther(0.7)), Kind::MergedWithOther);
}

#[test]
fn the_elder_by_commitment_owns_and_nobody_robs_himself() {
    let world = World::new(0);
    let print = &world.prints[0];
    let of = |id, owner, priority| Entry { id, owner, priority, print };
    let corpus = Corpus::new(&world.base_print, [of("second", "b", 2), of("first", "a", 1)]);
    let judge = |owner, priority| corpus.judge(&of("third", owner, priority)).victim;
    assert_eq!(judge("c", 3).as_deref(), Some("first"));
    assert_eq!(judge("a", 3).as_deref(), Some("second"));
    assert_eq!(judge("c", 1), None);
    assert_eq!(judge("c", 2).as_deref(), Some("first"));
}

#[test]
fn the_base_itself_is_nobodys_copy_and_no_victim() {
    let world = World::new(0);
    let corpus = Corpus::new(&world.base_print, world.entries());
    assert_eq!(corpus.judge(&late(&world.base_print)).victim, None);
    let genesis = Entry { id: "genesis", owner: "genesis", priority: 0, print: &world.base_print };
    let corpus = Corpus::new(&world.base_print, [genesis]);
    assert_eq!(corpus.judge(&late(&world.prints[3])).victim, None);
}

#[test]
fn the_middle_of_many_stands_for_an_unknown_base() {
    let world = World::new(0);
    let prints: Vec<&Fingerprint> = world.prints.iter().collect();
    assert!(corpus::middle(&prints[..corpus::MIDDLE_MIN - 1]).is_none());
    let middle = corpus::middle(&prints).unwrap();
    let corpus = Corpus::new(&middle, world.entries());
    let mut rng = Rng::new(4);
    for disguise in [Disguise::Ulp(1.0), Disguise::Relative(1e-3), Disguise::Residual, Disguise::Dummy] {
        let victim = &world.honest[0];
        let copy = disguise.apply(&victim.1, &world.base, &world.base, &mut rng).fingerprint(&world.key).unwrap();
        assert_eq!(corpus.judge(&late(&copy)).victim.as_ref(), Some(&victim.0), "{disguise:?}");
    }
    for x in world.entries() {
        assert_eq!(corpus.judge(&Entry { priority: 1000, ..x }).victim, None, "{}", x.id);
    }
}
