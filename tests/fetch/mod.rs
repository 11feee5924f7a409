//! Models fetched from a real registry (Debian's `docker-registry`) and from servers that misbehave.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicU64, Ordering},
    },
};

use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
};
use waag::artifact::{
    fetch::{Download, Http, Hub, Limits, Plain, Progress, Pushing, Registry, Source as _, download, push},
    model::{Folder, Reference, Repo as _, Trouble},
};

static TLS: Once = Once::new();

pub fn with_tls() {
    TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

pub fn http() -> Http {
    with_tls();
    Http::new(Limits { allow_private: true, silence_ms: 5_000, ..Limits::default() }).unwrap()
}

/// Debian's registry on loopback, with its files in a folder.
pub struct Peer {
    pub url: String,
    _process: Child,
    _dir: tempfile::TempDir,
}

#[expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a skip is told; the peer's output is read while it lives"
)]
pub async fn registry_with(more: &str) -> Option<Peer> {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yml");
    let root = dir.path().join("data");
    let text = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:0}}\n{more}",
        root.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("docker-registry");
    command.args(["serve"]).arg(&config).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = match command.spawn() {
        Ok(process) => process,
        Err(source) => {
            println!("SKIPPED: docker-registry cannot be started ({source}); install Debian's docker-registry");
            return None;
        }
    };
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let port = loop {
        let line = lines.next_line().await.unwrap().expect("the registry says where it listens");
        if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
            break rest.chars().take_while(char::is_ascii_digit).collect::<String>();
        }
    };
    // Somebody must read what it says, or it stops.
    tokio::spawn(async move { while let Ok(Some(_line)) = lines.next_line().await {} });
    Some(Peer { url: format!("http://127.0.0.1:{port}"), _process: process, _dir: dir })
}

pub async fn registry() -> Option<Peer> {
    registry_with("").await
}

/// A folder with files of these sizes, of bytes that follow from their names.
fn folder(files: &[(&str, usize)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let mut state = Sha256::digest(name.as_bytes());
        let mut content = Vec::with_capacity(*bytes + 32);
        while content.len() < *bytes {
            content.extend_from_slice(&state);
            state = Sha256::digest(state);
        }
        content.truncate(*bytes);
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn same(one: &Path, other: &Path) {
    let list = |folder: &Path| -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
    };
    let (one, other) = (list(one), list(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    assert!(one == other);
}

const FILES: &[(&str, usize)] = &[("config.json", 700), ("model.safetensors", 40_000_000), ("empty", 0)];
const SMALL: Download = Download { at_once: 4, range_bytes: 3_000_000, bytes_max: 100_000_000, leaves_weights: false };

#[tokio::test]
async fn a_model_goes_to_a_real_registry_and_comes_back() {
    let Some(peer) = registry().await else { return };
    let model = folder(FILES);
    let files = Folder::new(model.path()).list().await.unwrap();
    let nothing = |_pushing: &Pushing<'_>| ();
    let pushed = push(http(), &peer.url, "alice/model-1", None, model.path(), &files, &nothing).await.unwrap();
    assert_eq!((pushed.bytes, pushed.sent), (40_000_700, 40_000_700));
    // The same once more sends nothing and is the same.
    let again = push(http(), &peer.url, "alice/model-1", None, model.path(), &files, &nothing).await.unwrap();
    assert_eq!((again.reference.clone(), again.sent), (pushed.reference.clone(), 0));

    let source = Registry::new(http(), &peer.url, pushed.reference.clone(), None).unwrap();
    assert_eq!(source.list().await.unwrap(), files);
    let part = source.read("model.safetensors", 39_999_990, 100).await.unwrap();
    assert_eq!(part[..], fs::read(model.path().join("model.safetensors")).unwrap()[39_999_990..]);
    let into = tempfile::tempdir().unwrap();
    let seen = Mutex::new(Vec::new());
    download(&source, into.path(), SMALL, &|progress| seen.lock().unwrap().push(progress)).await.unwrap();
    same(model.path(), into.path());
    let last = *seen.lock().unwrap().iter().max_by_key(|progress| progress.done).unwrap();
    assert_eq!(last, Progress { done: 40_000_700, total: 40_000_700 });

    let reference = |digest: &str| Reference::new("alice/model-1", digest).unwrap();
    let other = Registry::new(http(), &peer.url, reference(&format!("sha256:{}", "0".repeat(64))), None).unwrap();
    assert!(matches!(other.list().await, Err(Trouble::Missing(_))));
    let elsewhere = Reference::new("alice/none", &pushed.reference.revision().to_string()).unwrap();
    let elsewhere = Registry::new(http(), &peer.url, elsewhere, None).unwrap();
    assert!(matches!(elsewhere.list().await, Err(Trouble::Missing(_))));
}

/// A request as our servers see it: method, path with query, first and last byte.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub range: Option<(usize, usize)>,
    pub authorization: Option<String>,
}

/// What they answer: status, headers, body; `cut` sends only so many bytes of the body and closes.
#[derive(Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub cut: Option<usize>,
    /// Whether nothing comes after the cut, and the line stays open.
    pub stalls: bool,
}

impl Answer {
    pub fn of(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub fn range(content: &[u8], range: Option<(usize, usize)>) -> Self {
        let Some((first, last)) = range else { return Self::of(200, content) };
        let told = ("content-range".to_owned(), format!("bytes {first}-{last}/{}", content.len()));
        Self { headers: vec![told], ..Self::of(206, &content[first..=last]) }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A server on loopback that speaks HTTP/1.1 and answers as the closure says.
#[expect(clippy::disallowed_methods, reason = "the server ends with its test")]
pub async fn server(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let (read, mut write) = socket.into_split();
                let mut lines = BufReader::new(read);
                while let Some(asked) = asked(&mut lines).await {
                    let answer = answer(&asked);
                    let mut head = format!("HTTP/1.1 {} x\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
                    for (name, value) in &answer.headers {
                        head.push_str(&format!("{name}: {value}\r\n"));
                    }
                    let body = if asked.method == "HEAD" { &[][..] } else { &answer.body };
                    let cut = answer.cut.unwrap_or(body.len()).min(body.len());
                    let sent = [format!("{head}\r\n").as_bytes(), &body[..cut]].concat();
                    let is_gone = write.write_all(&sent).await.is_err();
                    if answer.stalls && !is_gone {
                        std::future::pending::<()>().await;
                    }
                    if is_gone || answer.cut.is_some() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn asked(lines: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<Asked> {
    let mut first = String::new();
    lines.read_line(&mut first).await.ok().filter(|count| *count > 0)?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let mut asked = Asked { method: words.next()?, path: words.next()?, range: None, authorization: None };
    let mut length = 0;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
                asked.range = Some((first.parse().ok()?, last.parse().ok()?));
            }
            "authorization" => asked.authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).await.ok()?;
    Some(asked)
}

fn hex_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A plain folder of one file, served as the closure does.
async fn plain(content: &[u8], serve: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Plain {
    let sums = format!("{}  model.safetensors\n", hex_of(content));
    let digest = Sha256::digest(sums.as_bytes()).into();
    let content = content.to_vec();
    let address = server(move |asked| {
        if let Some(answer) = serve(asked) {
            return answer;
        }
        match asked.path.as_str() {
            "/m/SHA256SUMS" => Answer::of(200, sums.clone()),
            "/m/model.safetensors" => Answer::range(&content, asked.range),
            _ => Answer::of(404, ""),
        }
    })
    .await;
    Plain::new(http(), &format!("http://{address}/m"), digest).unwrap()
}

fn content() -> Vec<u8> {
    (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn a_plain_folder_is_fetched_by_its_list() {
    let content = content();
    let source = plain(&content, |_| None).await;
    let into = tempfile::tempdir().unwrap();
    download(&source, into.path(), SMALL, &|_| ()).await.unwrap();
    assert_eq!(fs::read(into.path().join("model.safetensors")).unwrap(), content);
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_download_that_broke_goes_on_where_it_stopped() {
    let content = content();
    let broken = AtomicU64::new(0);
    let whole = content.clone();
    let source = plain(&content, move |asked| {
        let (first, last) = asked.range.filter(|_range| asked.path.ends_with(".safetensors"))?;
        // Every answer breaks off after 300 kB; after six of them, which make three ranges, the source is gone.
        if broken.fetch_add(1, Ordering::Relaxed) >= 6 {
            return Some(Answer::of(503, ""));
        }
        Some(Answer { cut: Some(300_000), ..Answer::range(&whole, Some((first, last))) })
    })
    .await;
    let into = tempfile::tempdir().unwrap();
    let how = Download { at_once: 1, range_bytes: 500_000, ..SMALL };
    let broke = download(&source, into.path(), how, &|_| ()).await;
    assert!(matches!(broke, Err(Trouble::Failed(_))), "{broke:?}");
    assert!(!into.path().join("model.safetensors").exists());

    // The next source gives every byte, but only those that are missing are asked for.
    let (count, whole) = (Arc::new(AtomicU64::new(0)), content.clone());
    let counted = Arc::clone(&count);
    let better = plain(&content, move |asked| {
        let (first, last) = asked.range?;
        counted.fetch_add((last - first + 1) as u64, Ordering::Relaxed);
        Some(Answer::range(&whole, Some((first, last))))
    })
    .await;
    let begun = Mutex::new(None);
    let first = |progress: Progress| {
        begun.lock().unwrap().get_or_insert(progress.done);
    };
    download(&better, into.path(), how, &first).await.unwrap();
    assert_eq!(fs::read(into.path().join("model.safetensors")).unwrap(), content);
    let (here, asked) = (begun.into_inner().unwrap().unwrap(), count.load(Ordering::Relaxed));
    assert_eq!(here + asked, content.len() as u64);
    assert_eq!(here, 1_500_000);
}

#[tokio::test]
async fn sources_that_lie_are_found_out() {
    let content = content();
    let into = tempfile::tempdir().unwrap();
    // Ranges that are ignored.
    let whole = content.clone();
    let source = plain(&content, move |asked| asked.range.map(|_| Answer::of(200, whole.clone()))).await;
    let ignored = download(&source, into.path(), SMALL, &|_| ()).await;
    assert!(matches!(ignored, Err(Trouble::NoRange(_))), "{ignored:?}");
    assert!(matches!(source.read("model.safetensors", 0, 8).await, Err(Trouble::NoRange(_))));
    // Another range than was asked for.
    let whole = content.clone();
    let source = plain(&content, move |asked| {
        asked.range.map(|(first, last)| Answer::range(&whole, Some((first + 1, last + 1))))
    })
    .await;
    assert!(matches!(source.read("model.safetensors", 0, 8).await, Err(Trouble::NoRange(_))));
    // Other bytes: thrown away, and fetched anew afterwards.
    let mut other = content.clone();
    other[5] ^= 1;
    let source = plain(&content, move |asked| asked.range.map(|range| Answer::range(&other, Some(range)))).await;
    let damaged = download(&source, into.path(), SMALL, &|_| ()).await;
    assert!(matches!(damaged, Err(Trouble::Damaged(_))), "{damaged:?}");
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
    let source = plain(&content, |_| None).await;
    download(&source, into.path(), SMALL, &|_| ()).await.unwrap();
    // A list of files that is not the committed one.
    let source = plain(&content, |asked| asked.path.ends_with("SUMS").then(|| Answer::of(200, "other"))).await;
    assert!(matches!(source.list().await, Err(Trouble::Missing(_))));
    // A list without an end.
    let source =
        plain(&content, |asked| asked.path.ends_with("SUMS").then(|| Answer::of(200, vec![b'x'; 5_000_000]))).await;
    assert!(matches!(source.list().await, Err(Trouble::Failed(_))));
}

#[tokio::test]
async fn redirects_are_few_and_lead_to_allowed_places_only() {
    let content = content();
    let source =
        plain(&content, |asked| asked.range.map(|_| Answer::of(302, "").with("location", "/m/model.safetensors")))
            .await;
    let looped = source.open("model.safetensors", 0, 8).await;
    assert!(matches!(&looped, Err(Trouble::Failed(why)) if why.contains("more than 5 times")), "{looped:?}");
    for place in ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://user:pw@127.0.0.1/", "http://[", ""] {
        let source =
            plain(&content, move |asked| asked.range.map(|_| Answer::of(302, "").with("location", place))).await;
        assert!(matches!(source.open("model.safetensors", 0, 8).await, Err(Trouble::Failed(_))), "{place}");
    }
    // Where private addresses are not allowed, neither is a name or a number for one.
    let strict = Http::new(Limits::default()).unwrap();
    for base in [
        "http://example.com",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://169.254.169.254/",
    ] {
        let refused = Plain::new(strict.clone(), base, [0; 32]);
        assert!(matches!(refused, Err(Trouble::Forbidden(_))), "{base}: {refused:?}");
    }
    let named = Plain::new(strict, "https://localhost/m", [0; 32]).unwrap().list().await;
    assert!(matches!(&named, Err(Trouble::Forbidden(why)) if why.contains("not a public address")), "{named:?}");
    // A door that is shut says nothing about what is behind it: no miner is blamed for it.
    for status in [401, 403] {
        let source = plain(&content, move |asked| asked.range.map(|_| Answer::of(status, ""))).await;
        let shut = source.open("model.safetensors", 0, 8).await;
        assert!(matches!(shut, Err(Trouble::Failed(_))), "{status}: {shut:?}");
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_and_shown_to_the_registry_alone() {
    let blob = content();
    let store = {
        let blob = blob.clone();
        server(move |asked| {
            let status = if asked.authorization.is_some() { 400 } else { 206 };
            Answer { status, ..Answer::range(&blob, asked.range) }
        })
        .await
    };
    let layer = format!(
        r#"{{"digest":"sha256:{}","size":{},"annotations":{{"org.opencontainers.image.title":"model.safetensors"}}}}"#,
        hex_of(&blob),
        blob.len()
    );
    let manifest = format!(r#"{{"schemaVersion":2,"layers":[{layer}]}}"#);
    let reference = Reference::new("alice/model", &format!("sha256:{}", hex_of(manifest.as_bytes()))).unwrap();
    let tokens = Arc::new(AtomicU64::new(0));
    let given = Arc::clone(&tokens);
    let address = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&address);
    let registry = server(move |asked| {
        if asked.path == "/token?service=here&scope=repository%3Aalice%2Fmodel%3Apull" {
            given.fetch_add(1, Ordering::Relaxed);
            return Answer::of(200, r#"{"token":"abc"}"#);
        }
        if asked.authorization.as_deref() != Some("Bearer abc") {
            let realm = format!(r#"Bearer realm="http://{}/token",service="here""#, own.lock().unwrap());
            return Answer::of(401, "").with("www-authenticate", &realm);
        }
        match asked.path.split('/').nth(4) {
            Some("manifests") => Answer::of(200, manifest.clone()),
            Some("blobs") => Answer::of(307, "").with("location", &format!("http://{store}/blob")),
            _ => Answer::of(404, ""),
        }
    })
    .await;
    *address.lock().unwrap() = registry.to_string();
    let source = Registry::new(http(), &format!("http://{registry}"), reference, None).unwrap();
    let into = tempfile::tempdir().unwrap();
    download(&source, into.path(), SMALL, &|_| ()).await.unwrap();
    assert_eq!(fs::read(into.path().join("model.safetensors")).unwrap(), blob);
    assert_eq!(tokens.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_hub_answers_for_the_commit_that_was_asked_for() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let blob = content();
    let lfs = format!(r#"{{"sha256":"{}","size":{},"pointerSize":130}}"#, hex_of(&blob), blob.len());
    let about = format!(
        r#"{{"sha":"{commit}","siblings":[{{"rfilename":"config.json","size":2}},{{"rfilename":"model.safetensors","size":{},"lfs":{lfs}}}]}}"#,
        blob.len()
    );
    let served = blob.clone();
    let address = server(move |asked| match asked.path.as_str() {
        "/api/models/alice/model/revision/0123456789abcdef0123456789abcdef01234567?blobs=true" => {
            Answer::of(200, about.clone())
        }
        "/alice/model/resolve/0123456789abcdef0123456789abcdef01234567/config.json" => {
            Answer::range(b"{}", asked.range)
        }
        "/alice/model/resolve/0123456789abcdef0123456789abcdef01234567/model.safetensors" => {
            Answer::range(&served, asked.range)
        }
        _ => Answer::of(404, ""),
    })
    .await;
    let hub = |commit: &str| {
        Hub::new(http(), &format!("http://{address}"), Reference::new("alice/model", commit).unwrap()).unwrap()
    };
    let into = tempfile::tempdir().unwrap();
    download(&hub(commit), into.path(), SMALL, &|_| ()).await.unwrap();
    assert_eq!(fs::read(into.path().join("model.safetensors")).unwrap(), blob);
    assert_eq!(fs::read(into.path().join("config.json")).unwrap(), b"{}");
    assert!(matches!(hub(&"f".repeat(40)).list().await, Err(Trouble::Missing(_))));
}
