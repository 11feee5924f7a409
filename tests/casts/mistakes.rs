//! Mistakes: artifacts that no runtime should ever see, each with the code that its miner deserves.

use waag::{
    artifact::onnx::proto::{AttributeProto, ModelProto, NodeProto, attribute},
    cli::demo::{
        cast::{self, Models, archive},
        disguise::{self, Dice, edit},
    },
};

/// One kind of mistake.
pub struct Mistake {
    /// What is wrong, in words.
    pub who: &'static str,
    /// What its miner is told.
    pub code: &'static str,
    make: fn(&mut Dice) -> Vec<u8>,
}

impl Mistake {
    /// An artifact with this mistake.
    pub fn artifact(&self, dice: &mut Dice) -> Vec<u8> {
        (self.make)(dice)
    }
}

const fn mistake(who: &'static str, code: &'static str, make: fn(&mut Dice) -> Vec<u8>) -> Mistake {
    Mistake { who, code, make }
}

/// What is wrong with the archive, its manifest or a file in it.
pub const MALFORMED: &[Mistake] = &[
    mistake("an ONNX file whose end is missing", "onnx_malformed", |dice| {
        one(|model| {
            // Not in the first bytes: what is cut between two fields of the file itself would be a file without graph.
            let kept = model.len() / 4 + dice.below(model.len() / 2);
            model[..kept].to_vec()
        })
    }),
    mistake("text in place of an ONNX file", "onnx_malformed", |_dice| one(|_model| b"print('hello')\n".to_vec())),
    mistake("an archive whose end is missing", "archive_malformed", |dice| {
        let whole = archive("broken", &cast::mediocre());
        whole[..600 + dice.below(whole.len() / 2)].to_vec()
    }),
    mistake("bytes that are no archive", "archive_malformed", |dice| {
        (0..200 + dice.below(2000)).map(|_| u8::try_from(dice.below(256)).expect("a byte") | 1).collect()
    }),
    mistake("more after the archive's end", "archive_trailing", |_dice| {
        [archive("broken", &cast::mediocre()), b"and more".repeat(64)].concat()
    }),
    mistake("a link in the archive", "archive_entry_kind", |_dice| with_link()),
    mistake("no manifest", "manifest_missing", |_dice| files(&[("CartPole-v1.onnx", &cast::mediocre()[0].1)])),
    mistake("a manifest that is no TOML", "manifest_malformed", |_dice| {
        files(&[("policy.toml", b"{ \"format\": 1 }"), ("CartPole-v1.onnx", &cast::mediocre()[0].1)])
    }),
    mistake("a file that the manifest does not name", "manifest_files", |_dice| {
        let models = cast::mediocre();
        let manifest = b"format = 1\n[environments]\n\"CartPole-v1\" = \"CartPole-v1.onnx\"\n";
        files(&[("policy.toml", manifest), ("CartPole-v1.onnx", &models[0].1), ("Acrobot-v1.onnx", &models[1].1)])
    }),
    mistake("an environment that nobody plays", "environment_unknown", |_dice| {
        archive("broken", &[("Humanoid-v5", cast::mediocre()[0].1.clone())])
    }),
    mistake("a network for another environment", "onnx_input", |_dice| {
        let models = cast::mediocre();
        archive("broken", &[(models[0].0, models[1].1.clone()), (models[1].0, models[0].1.clone())])
    }),
    mistake("an operator set of the future", "onnx_version", |_dice| {
        changed(|model| model.opset_import[0].version = Some(99))
    }),
    mistake("an operator of its own domain", "onnx_custom_domain", |_dice| {
        changed(|model| first_node(model).domain = Some("com.example".to_owned()))
    }),
    mistake("an operator that rolls dice", "onnx_operator", |_dice| {
        changed(|model| first_node(model).op_type = Some("RandomNormalLike".to_owned()))
    }),
    mistake("a branch", "onnx_control_flow", |_dice| {
        changed(|model| first_node(model).op_type = Some("If".to_owned()))
    }),
    mistake("a weight that nobody made", "onnx_graph", |_dice| {
        changed(|model| first_node(model).input[1] = "nowhere".to_owned())
    }),
    mistake("a weight with too few bytes", "onnx_tensor", |_dice| {
        changed(|model| {
            let tensor = &mut model.graph.as_mut().expect("a graph").initializer[0];
            tensor.raw_data.as_mut().expect("raw bytes").pop();
        })
    }),
];

/// Where weights are kept that are not in the file.
pub const EXTERNAL: &[Mistake] = &[
    mistake("keeps its weights in another file", "onnx_external_data", |_dice| {
        one(|model| disguise::externalise(model, "weights.bin"))
    }),
    mistake("names a file of the machine for its weights", "onnx_external_data", |_dice| {
        one(|model| disguise::externalise(model, "/etc/passwd"))
    }),
    mistake("keeps one of its weights in another file", "onnx_external_data", |dice| {
        changed(|model| {
            let tensors = &mut model.graph.as_mut().expect("a graph").initializer;
            let only = dice.below(tensors.len());
            tensors[only].data_location = Some(1);
        })
    }),
    mistake("keeps the value of a constant in another file", "onnx_external_data", |_dice| {
        changed(|model| {
            let graph = model.graph.as_mut().expect("a graph");
            let mut tensor = graph.initializer.remove(0);
            let name = tensor.name.take().expect("initialisers have names");
            (tensor.raw_data, tensor.data_location) = (None, Some(1));
            let value = AttributeProto {
                name: Some("value".to_owned()),
                r#type: Some(attribute::TENSOR),
                t: Some(tensor),
                ..AttributeProto::default()
            };
            let constant = NodeProto {
                op_type: Some("Constant".to_owned()),
                output: vec![name],
                attribute: vec![value],
                ..NodeProto::default()
            };
            graph.node.insert(0, constant);
        })
    }),
];

/// The mediocre one's first file alone, changed as bytes.
fn one(change: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut models: Models = cast::mediocre();
    models.truncate(1);
    let changed = change(&models[0].1);
    models[0].1 = changed;
    archive("broken", &models)
}

fn changed(change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    one(|model| edit(model, change))
}

fn first_node(model: &mut ModelProto) -> &mut NodeProto {
    &mut model.graph.as_mut().expect("our files have a graph").node[0]
}

fn header(size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}

fn files(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        tar.append_data(&mut header(bytes.len()), name, *bytes).expect("memory takes it");
    }
    tar.into_inner().expect("memory takes it")
}

fn with_link() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut link = header(0);
    link.set_entry_type(tar::EntryType::Symlink);
    tar.append_link(&mut link, "policy.toml", "/etc/passwd").expect("memory takes it");
    tar.into_inner().expect("memory takes it")
}
