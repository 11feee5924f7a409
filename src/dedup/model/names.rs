//! Names of tensors, and which matrices a tensor holds.
//!
//! Owns the cut of a tensor into matrices, so that one tensor for each expert and one for all experts give the same
//! ones. Refuses to know values. `scan` calls it before the first byte of a tensor.

use std::collections::BTreeSet;

/// How a tensor is cut into matrices, in the order in which their bytes come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Family of each part of a member: the parts alternate within one member.
    pub parts: Vec<String>,
    /// Number of members in this tensor.
    pub members: u64,
    /// Number of the first member; `None` where the tensor is no expert's.
    pub first: Option<u32>,
    /// Rows of one part.
    pub rows: u64,
    /// Columns.
    pub cols: u64,
}

/// The word that stands for the number of an expert in a family's name.
pub(super) const ANY: &str = "*";

/// The cut of a tensor of this name and shape.
///
/// `…experts.7.up_proj.weight` is member 7 of the family `…experts.*.up`; `…experts.gate_up_proj` of three dimensions
/// holds the gates and the ups of all members, halves of the rows of each. Where a tensor is stored the other way
/// round, the halves are halves of the inputs instead: then they are the same parts in every model of that layout.
pub(super) fn layout_of(name: &str, shape: &[u64]) -> Layout {
    let rest = |from: usize| shape.iter().skip(from).product::<u64>();
    let stem = name.strip_suffix(".weight").unwrap_or(name);
    if let Some((group, member, role)) = expert_of(stem) {
        let (rows, cols) = if shape.len() < 2 { (1, rest(0)) } else { (shape[0], rest(1)) };
        let parts = parts_of(group, role, rows);
        let rows = rows / parts.len() as u64;
        return Layout { parts, members: 1, first: Some(member), rows, cols };
    }
    if let Some((group, role)) = fused_of(stem, shape) {
        let parts = parts_of(group, role, shape[1]);
        let rows = shape[1] / parts.len() as u64;
        return Layout { parts, members: shape[0], first: Some(0), rows, cols: shape[2] };
    }
    let (rows, cols) = if shape.len() < 2 { (1, rest(0)) } else { (shape[0], rest(1)) };
    Layout { parts: vec![name.to_owned()], members: 1, first: None, rows, cols }
}

/// How many matrices a tensor of this name and shape is cut into.
#[must_use]
pub fn matrices_of(name: &str, shape: &[u64]) -> u64 {
    let layout = layout_of(name, shape);
    layout.members.saturating_mul(layout.parts.len() as u64)
}

/// A matrix that two tensors would both be, if there is one: whichever is read later would hide the other.
#[must_use]
pub fn twice<'a>(tensors: impl IntoIterator<Item = (&'a str, &'a [u64])>) -> Option<String> {
    let mut seen = BTreeSet::new();
    for (name, shape) in tensors {
        let layout = layout_of(name, shape);
        let first = u64::from(layout.first.unwrap_or(0));
        for family in layout.parts {
            for member in first..first.saturating_add(layout.members) {
                if !seen.insert((family.clone(), layout.first.is_some(), member)) {
                    return Some(name.to_owned());
                }
            }
        }
    }
    None
}

/// Group, number and role of one expert's tensor.
fn expert_of(stem: &str) -> Option<(&str, u32, &str)> {
    let at = stem.find("experts.")? + "experts.".len();
    let (number, role) = stem[at..].split_once('.')?;
    Some((&stem[..at], number.parse().ok()?, role))
}

/// Group and role of a tensor of all experts.
fn fused_of<'a>(stem: &'a str, shape: &[u64]) -> Option<(&'a str, &'a str)> {
    let at = stem.find("experts.")? + "experts.".len();
    (shape.len() == 3 && !stem[at..].contains('.')).then(|| (&stem[..at], &stem[at..]))
}

fn parts_of(group: &str, role: &str, rows: u64) -> Vec<String> {
    let family = |role: &str| format!("{group}{ANY}.{}", role.strip_suffix("_proj").unwrap_or(role));
    if role.starts_with("gate_up") && rows.is_multiple_of(2) && !role.contains("bias") {
        return vec![family("gate"), family("up")];
    }
    vec![family(role)]
}

/// The group of experts that a family belongs to, if any: members of one group are permuted together.
pub(super) fn group_of(family: &str) -> Option<&str> {
    family.find("experts.*.").map(|at| &family[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_of_experts_have_the_same_families() {
        let fused = layout_of("model.layers.3.mlp.experts.gate_up_proj", &[8, 64, 32]);
        assert_eq!(fused.parts, ["model.layers.3.mlp.experts.*.gate", "model.layers.3.mlp.experts.*.up"]);
        assert_eq!((fused.members, fused.first, fused.rows, fused.cols), (8, Some(0), 32, 32));
        let single = layout_of("model.layers.3.mlp.experts.5.up_proj.weight", &[32, 32]);
        assert_eq!(single.parts, ["model.layers.3.mlp.experts.*.up"]);
        assert_eq!((single.members, single.first, single.rows, single.cols), (1, Some(5), 32, 32));
        let down = layout_of("model.layers.3.mlp.experts.down_proj", &[8, 32, 32]);
        assert_eq!(down.parts, ["model.layers.3.mlp.experts.*.down"]);
        assert_eq!(group_of(&down.parts[0]), Some("model.layers.3.mlp."));
    }

    #[test]
    fn no_two_tensors_are_one_matrix_unseen() {
        let (split, other): (&[u64], &[u64]) = (&[8, 4], &[8, 4]);
        let name = |at: usize| format!("m.experts.{at}.up_proj.weight");
        let (first, second) = (name(0), name(1));
        let honest = [(first.as_str(), split), (second.as_str(), other), ("m.norm.weight", &[4])];
        assert_eq!(twice(honest), None);
        let hidden = "m.experts.0.up.weight";
        assert_eq!(twice(honest.into_iter().chain([(hidden, split)])), Some(hidden.to_owned()));
        let fused: &[u64] = &[2, 16, 4];
        let packed = "m.experts.gate_up_proj";
        assert_eq!(twice(honest.into_iter().chain([(packed, fused)])), Some(packed.to_owned()));
    }

    #[test]
    fn other_tensors_are_one_matrix() {
        let plain = layout_of("model.embed_tokens.weight", &[100, 16]);
        assert_eq!((plain.members, plain.first, plain.rows, plain.cols), (1, None, 100, 16));
        let gain = layout_of("model.norm.weight", &[16]);
        assert_eq!((gain.rows, gain.cols), (1, 16));
        let scalar = layout_of("scale", &[]);
        assert_eq!((scalar.rows, scalar.cols), (1, 1));
        let patch = layout_of("patch_embed.proj.weight", &[12, 3, 2, 4, 4]);
        assert_eq!((patch.rows, patch.cols), (12, 96));
        assert_eq!(group_of("model.norm.weight"), None);
        let odd = layout_of("a.experts.gate_up_proj", &[2, 7, 4]);
        assert_eq!(odd.parts.len(), 1);
    }
}
