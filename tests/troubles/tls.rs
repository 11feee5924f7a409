//! Nodes behind TLS.

use std::{path::Path, sync::Arc};

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use waag::actors::Tasks;

use super::Node;
use crate::cli::run_with;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tls");

/// TLS in front of a node, by a certificate that only tests trust. Answers its address.
async fn tls_in_front_of(node: &Node, tasks: &Tasks) -> String {
    let certificate = CertificateDer::from_pem_file(Path::new(FOLDER).join("node.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(Path::new(FOLDER).join("node.key")).expect("its key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they fit");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let (node, more) = (node.url().trim_start_matches("ws://").to_owned(), tasks.clone());
    tasks.spawn("tls", async move {
        loop {
            let accepted = tokio::select! {
                () = more.token().cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, _from) = accepted.expect("it can accept");
            let (acceptor, node, token) = (acceptor.clone(), node.clone(), more.token().clone());
            more.spawn("tls connection", async move {
                // Whoever does not trust us goes away in the middle.
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let mut node = TcpStream::connect(node).await.expect("the node listens");
                tokio::select! {
                    () = token.cancelled() => {}
                    _ended = tokio::io::copy_bidirectional(&mut client, &mut node) => {}
                }
            });
        }
    });
    format!("wss://localhost:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_tls_is_used_when_its_certificate_is_trusted_and_refused_by_name_when_not() {
    let (node, tasks) = (Node::new(1).await, Tasks::new());
    node.subnet().await;
    node.blocks(3).await;
    let url = tls_in_front_of(&node, &tasks).await;
    let dir = tempfile::tempdir().expect("a folder");
    let authority = format!("{FOLDER}/ca.pem");
    let ask = |trusted: &'static str, network: String| {
        let (dir, authority) = (dir.path().to_owned(), authority.clone());
        tokio::task::spawn_blocking(move || {
            let file = if trusted == "ours" { authority } else { format!("{FOLDER}/node.pem") };
            run_with(&dir, &[("SSL_CERT_FILE", &file)], &["metagraph", "--json", "--network", &network])
        })
    };
    let said = ask("ours", url.clone()).await.expect("it ran");
    assert_eq!(said.exit, 0, "{said:?}");
    assert_eq!(said.json()["neurons"].as_array().map(Vec::len), Some(1));
    let refused = ask("others", url).await.expect("it ran");
    let error: Value = refused.json()["error"].clone();
    assert_eq!(error["code"], "chain_certificate_untrusted", "{error}");
    // The same node without TLS needs no authority.
    assert_eq!(ask("others", node.url()).await.expect("it ran").exit, 0);
    tasks.token().cancel();
    node.end().await;
}
