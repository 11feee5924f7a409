//! A model laid beside its base: which of its matrices stands where.
//!
//! Owns the order of experts, found again where a copier changed it. Refuses to compare two models. `evidence` reads
//! it.
//!
//! Experts of one layer differ from each other far more than a fine-tune moves them, so each is recognised by its
//! likeness to the base's: by its sketch, and, where its inside was reordered or rescaled as well, by those figures of
//! its matrices that this leaves alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    names,
    print::{Fingerprint, SlicePrint},
};

/// Members of a group beyond which experts are taken in the order they come: the search is quadratic.
const MEMBERS_MAX: usize = 1024;
/// Best over second-best distance, averaged over experts, above which no order is believed.
const ORDER_DOUBT: f64 = 0.6;
/// The same below which no other way is tried.
const ORDER_SURE: f64 = 0.2;

/// A model's matrices in the base's order.
#[derive(Debug, Clone)]
pub(super) struct Aligned<'a> {
    /// One place for each of the base's matrices; empty where the model has none of that name and shape.
    pub slices: Vec<Option<&'a SlicePrint>>,
    /// Matrices that the base lacks.
    pub added: usize,
    /// Groups of experts that stand in another order than the base's.
    pub reordered: usize,
}

impl<'a> Aligned<'a> {
    /// Lays a model beside its base.
    pub(super) fn of(model: &'a Fingerprint, base: &Fingerprint) -> Self {
        let find = |slice: &SlicePrint, member| {
            let found = model.slice(&slice.family, member)?;
            let is_like = (found.rows, found.cols) == (slice.rows, slice.cols) && !found.sketch.is_empty();
            (is_like && found.sketch.len() == slice.sketch.len()).then_some(found)
        };
        let mut slices: Vec<_> = base.slices.iter().map(|slice| find(slice, slice.member)).collect();
        let added = model.slices.iter().filter(|slice| base.slice(&slice.family, slice.member).is_none()).count();
        let mut reordered = 0;
        for places in groups(base).values() {
            let Some(order) = order_of(base, &slices, places) else { continue };
            reordered += 1;
            for at in places {
                let slice = &base.slices[*at];
                let member = slice.member.map(|member| order.get(&member).copied().unwrap_or(member));
                slices[*at] = find(slice, member);
            }
        }
        Self { slices, added, reordered }
    }
}

/// Places of the base's matrices by group of experts.
fn groups(base: &Fingerprint) -> BTreeMap<&str, Vec<usize>> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, slice) in base.slices.iter().enumerate() {
        if let (Some(group), Some(_)) = (names::group_of(&slice.family), slice.member) {
            groups.entry(group).or_default().push(at);
        }
    }
    groups
}

/// Ways to recognise an expert, from the most telling to the most robust.
const WAYS: [fn(&SlicePrint) -> Vec<f32>; 4] = [
    |slice| slice.sketch.clone(),
    |slice| [slice.shape.row_norms, slice.shape.column_norms].concat(),
    |slice| slice.shape.row_kurtosis.to_vec(),
    |slice| slice.shape.column_kurtosis.to_vec(),
];

/// Numbers of the model's members by the base's.
type Order = BTreeMap<u32, u32>;

/// Which of the model's members stands in the place of each of the base's, if not its own. Every family of the group
/// is asked in every way: a disguise that blurs one leaves another sharp.
fn order_of(base: &Fingerprint, slices: &[Option<&SlicePrint>], places: &[usize]) -> Option<Order> {
    let mut families: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for at in places {
        families.entry(&base.slices[*at].family).or_default().push(*at);
    }
    let mut best: Option<(f64, Order)> = None;
    for way in WAYS {
        for places in families.values() {
            let Some((doubt, order)) = matched(base, slices, places, way) else { continue };
            if best.as_ref().is_none_or(|(least, _)| doubt < *least) {
                best = Some((doubt, order));
            }
        }
        if best.as_ref().is_some_and(|(doubt, _)| *doubt <= ORDER_SURE) {
            break;
        }
    }
    let (doubt, order) = best?;
    let is_other = order.iter().any(|(own, found)| own != found);
    (doubt <= ORDER_DOUBT && is_other).then_some(order)
}

/// Nearest neighbours in one family by one way, if they are an order, and how doubtful they are.
fn matched(
    base: &Fingerprint,
    slices: &[Option<&SlicePrint>],
    places: &[usize],
    way: fn(&SlicePrint) -> Vec<f32>,
) -> Option<(f64, Order)> {
    if places.len() < 2 || places.len() > MEMBERS_MAX {
        return None;
    }
    let mut members = Vec::with_capacity(places.len());
    for at in places {
        members.push((base.slices[*at].member?, way(&base.slices[*at]), way(slices[*at]?)));
    }
    let (mut doubt, mut order, mut taken) = (0.0, Order::new(), BTreeSet::new());
    for (place, wanted, _) in &members {
        let mut ranked: Vec<(f64, u32)> =
            members.iter().map(|(found, _, have)| (apart(wanted, have), *found)).collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (first, second) = (ranked[0], ranked[1]);
        doubt += if second.0 > 0.0 { first.0 / second.0 } else { 1.0 };
        if !taken.insert(first.1) {
            return None;
        }
        order.insert(*place, first.1);
    }
    Some((doubt / members.len() as f64, order))
}

/// Squared distance.
fn apart(wanted: &[f32], have: &[f32]) -> f64 {
    wanted.iter().zip(have).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}
