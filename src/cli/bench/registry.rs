//! A registry of one bad model, as far as a preflight asks it, behind a slow line.
//!
//! Owns the model's files, the few requests of the distribution specification that are answered, and the delay of every
//! one. Refuses everything else. Only `waag bench preflight` starts it, on loopback.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
};

use crate::{actors::Tasks, artifact::model::Reference, clock::Clock, ids::Digest};

/// The model's repository.
const REPO: &str = "bench/bad-model";
/// Weight files of the model.
pub const SHARDS: usize = 30;
/// Tensors of each: experts of their own, as large published models have them.
const TENSORS: usize = 1000;
/// Elements of each tensor: with two bytes each, 30 files have 70 GB.
const SHAPE: [u64; 2] = [2048, 569];
/// Which file, counted from 1, holds the tensor of a type that is not taken.
const BAD_SHARD: usize = 29;
/// Bytes of a line of a request: ours are shorter.
const LINE_BYTES: usize = 8192;
/// Lines of a request.
const LINES: usize = 64;

/// What went over the line.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes that were sent, with the heads of the answers.
    pub sent_bytes: AtomicU64,
    /// Requests that were answered.
    pub requests: AtomicU64,
    /// Connections that were taken.
    pub connections: AtomicU64,
}

/// A running registry.
pub struct Registry {
    /// Its address.
    pub url: String,
    /// The model in it.
    pub reference: Reference,
    /// Bytes of all of its files.
    pub model_bytes: u64,
    /// Bytes of the headers of its weight files, with their lengths.
    pub header_bytes: u64,
    /// What went over the line.
    pub traffic: Arc<Traffic>,
}

struct Blob {
    digest: String,
    file: File,
    bytes: u64,
}

struct Shared {
    manifest: Vec<u8>,
    manifest_digest: String,
    blobs: Vec<Blob>,
    latency: Duration,
    clock: Arc<dyn Clock>,
    traffic: Arc<Traffic>,
    url: String,
}

struct Asked {
    path: String,
    range: Option<(u64, u64)>,
    is_authorized: bool,
}

impl Registry {
    /// Makes the model's files, which hold nothing but their headers, in this folder, and serves them.
    pub async fn start(folder: &Path, latency: Duration, clock: Arc<dyn Clock>, tasks: &Tasks) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (mut blobs, mut layers, mut header_bytes) = (Vec::new(), Vec::new(), 0);
        let mut add = |name: &str, head: &[u8], bytes: u64| -> io::Result<()> {
            let file = File::options().read(true).write(true).create_new(true).open(folder.join(name))?;
            file.write_all_at(head, 0)?;
            file.set_len(bytes)?;
            // Nobody reads the files whole, so nobody compares their digests: any will do.
            let digest = format!("sha256:{}", Digest::of(name.as_bytes()));
            layers.push(json!({
                "mediaType": "application/octet-stream", "digest": digest, "size": bytes,
                "annotations": {"org.opencontainers.image.title": name},
            }));
            blobs.push(Blob { digest, file, bytes });
            Ok(())
        };
        for number in 1..=SHARDS {
            let (head, bytes) = weights(number);
            header_bytes += head.len() as u64;
            add(&format!("model-{number:05}-of-{SHARDS:05}.safetensors"), &head, bytes)?;
        }
        for (name, text) in [("config.json", "{}"), ("model.safetensors.index.json", "{}")] {
            add(name, text.as_bytes(), text.len() as u64)?;
        }
        let model_bytes = blobs.iter().map(|blob| blob.bytes).sum();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
        });
        let manifest = manifest.to_string().into_bytes();
        let manifest_digest = format!("sha256:{}", Digest::of(&manifest));
        let reference = Reference::new(REPO, &manifest_digest).map_err(|why| io::Error::other(why.detail))?;
        let traffic = Arc::<Traffic>::default();
        let shared = Shared {
            manifest,
            manifest_digest,
            blobs,
            latency,
            clock,
            traffic: Arc::clone(&traffic),
            url: url.clone(),
        };
        serve(listener, Arc::new(shared), tasks);
        Ok(Self { url, reference, model_bytes, header_bytes, traffic })
    }
}

/// The beginning of a weight file, and its size.
fn weights(number: usize) -> (Vec<u8>, u64) {
    let (mut members, mut at) = (Map::new(), 0);
    for expert in 0..TENSORS {
        let name = format!("model.language_model.layers.{number}.mlp.experts.{expert:04}.gate_proj.weight");
        let is_bad = number == BAD_SHARD && expert == TENSORS / 2;
        let (dtype, element_bytes) = if is_bad { ("F32", 4) } else { ("BF16", 2) };
        let end = at + SHAPE[0] * SHAPE[1] * element_bytes;
        members.insert(name, json!({"dtype": dtype, "shape": SHAPE, "data_offsets": [at, end]}));
        at = end;
    }
    let header = serde_json::Value::Object(members).to_string();
    let head = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    let bytes = head.len() as u64 + at;
    (head, bytes)
}

fn serve(listener: TcpListener, shared: Arc<Shared>, tasks: &Tasks) {
    let within = tasks.clone();
    let token = tasks.token().clone();
    tasks.spawn("bench registry", async move {
        loop {
            let socket = tokio::select! {
                () = token.cancelled() => return,
                taken = listener.accept() => match taken {
                    Ok((socket, _)) => socket,
                    Err(_) => return,
                },
            };
            let (shared, token) = (Arc::clone(&shared), token.clone());
            within.spawn("bench connection", async move {
                tokio::select! {
                    () = token.cancelled() => {}
                    _ = converse(socket, &shared) => {}
                }
            });
        }
    });
}

/// Answers until the other side has enough. A new connection costs a way there and back too, as everywhere.
async fn converse(socket: TcpStream, shared: &Shared) -> io::Result<()> {
    shared.traffic.connections.fetch_add(1, Ordering::Relaxed);
    socket.set_nodelay(true)?;
    shared.clock.sleep(shared.latency).await;
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read);
    while let Some(asked) = asked(&mut lines).await? {
        shared.clock.sleep(shared.latency).await;
        let answer = answer(shared, &asked)?;
        shared.traffic.requests.fetch_add(1, Ordering::Relaxed);
        shared.traffic.sent_bytes.fetch_add(answer.len() as u64, Ordering::Relaxed);
        write.write_all(&answer).await?;
    }
    Ok(())
}

async fn asked(lines: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Asked>> {
    let mut asked = Asked { path: String::new(), range: None, is_authorized: false };
    for number in 0..LINES {
        let mut line = String::new();
        if lines.read_line(&mut line).await? == 0 || line.len() > LINE_BYTES {
            return Ok(None);
        }
        let line = line.trim_end();
        if number == 0 {
            asked.path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            continue;
        }
        let Some((name, value)) = line.split_once(": ") else { return Ok(Some(asked)) };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let range = value.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
                asked.range = range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
            }
            "authorization" => asked.is_authorized = true,
            _ => {}
        }
    }
    Ok(None)
}

/// A registry that is open to everybody still wants a token, as the public ones do.
fn answer(shared: &Shared, asked: &Asked) -> io::Result<Vec<u8>> {
    let whole = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        Ok([head.as_bytes(), body].concat())
    };
    if asked.path.starts_with("/token?") {
        return whole("200 OK", "content-type: application/json\r\n", br#"{"token":"bench"}"#);
    }
    if !asked.is_authorized {
        let challenge = format!(
            "www-authenticate: Bearer realm=\"{}/token\",service=\"bench\",scope=\"repository:{REPO}:pull\"\r\n",
            shared.url
        );
        return whole("401 Unauthorized", &challenge, b"");
    }
    let below = asked.path.strip_prefix(&format!("/v2/{REPO}/")).unwrap_or_default();
    if below.strip_prefix("manifests/") == Some(&shared.manifest_digest) {
        return whole("200 OK", "content-type: application/vnd.oci.image.manifest.v1+json\r\n", &shared.manifest);
    }
    let digest = below.strip_prefix("blobs/").unwrap_or_default();
    let blob = shared.blobs.iter().find(|blob| blob.digest == digest);
    match (blob, asked.range) {
        (Some(blob), Some((first, last))) if first <= last && last < blob.bytes => {
            let mut body = vec![0; usize::try_from(last - first + 1).map_err(io::Error::other)?];
            blob.file.read_exact_at(&mut body, first)?;
            let range = format!("content-range: bytes {first}-{last}/{}\r\n", blob.bytes);
            whole("206 Partial Content", &range, &body)
        }
        _ => whole("404 Not Found", "", b""),
    }
}
