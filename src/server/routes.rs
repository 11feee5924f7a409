//! Routes: which path shows what.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    App, door, layers, limits,
    problem::{Failure, METHOD_UNKNOWN, NOT_FOUND, QUERY_MALFORMED, ROUTE_UNKNOWN},
    stream,
    views::{self, Page, Window},
};
use crate::{
    ids::{Digest, Hotkey, RunId, SubmissionId},
    limits::PAGE_ROWS,
    pipeline::{self, life},
};

/// Bytes of a bundle that are handed to the connection at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// The program's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

type Answer<T> = Result<Json<T>, Failure>;
type Asked<T> = Result<Query<T>, QueryRejection>;
type Named = Result<Path<String>, PathRejection>;

/// All paths.
pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/v1/health", get(health))
        .route("/v1/status", get(status))
        .route("/v1/challenges", get(challenges))
        .route("/v1/challenges/{slug}/submissions", post(door::upload))
        .route("/v1/challenges/{slug}/corpus", get(corpus))
        .route("/v1/corpus/{object}", get(corpus_object))
        .route("/v1/submissions", get(submissions))
        .route("/v1/submissions/{id}", get(submission))
        .route("/v1/submissions/{id}/story", get(story))
        .route("/v1/submissions/{id}/fault.json", get(fault_file))
        .route("/v1/rankings/{challenge}", get(ranking))
        .route("/v1/runs", get(runs))
        .route("/v1/runs/{id}", get(run))
        .route("/v1/weights", get(weights))
        .route("/v1/evidence/{digest}", get(evidence))
        .route("/v1/refusals", get(refusals))
        .route("/v1/events", get(events))
        .route("/events", get(stream::events))
        .fallback(async || Failure::new(ROUTE_UNKNOWN, StatusCode::NOT_FOUND, "see /v1/status"))
        .method_not_allowed_fallback(async || {
            Failure::new(METHOD_UNKNOWN, StatusCode::METHOD_NOT_ALLOWED, "see the Allow header")
        })
        .layer(middleware::from_fn_with_state(app.clone(), layers::around))
        .with_state(app)
}

/// Answers from memory alone: it must answer even when the database does not.
async fn health(State(app): State<App>) -> Json<views::Health> {
    let facts = app.facts();
    let block = facts.as_ref().map(|facts| facts.finalized);
    let status = if facts.is_some_and(|facts| !facts.stored) { "ok" } else { "starting" };
    Json(views::Health { status: status.to_owned(), version: VERSION.to_owned(), block })
}

async fn status(State(app): State<App>) -> Answer<views::Status> {
    let pipeline = app.pipeline().clone();
    let (facts, now_ms) = (app.facts(), app.clock().now_ms());
    let trouble = app.shared.state.trouble.borrow().clone();
    let tasks = app.shared.tasks.running();
    let slots = views::SlotStatus::from(&app.shared.state.scheduler);
    let status = app
        .pipeline()
        .store()
        .db()
        .read(move |conn| {
            let challenges = pipeline.challenges();
            let facts = facts.as_ref();
            views::status(conn, views::Sources { version: VERSION, now_ms, facts, trouble, tasks, slots, challenges })
        })
        .await?;
    Ok(Json(status))
}

async fn challenges(State(app): State<App>) -> Json<Vec<views::Challenge>> {
    Json(views::challenges(app.pipeline(), app.shared.public_url.as_deref()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmissionsQuery {
    challenge: Option<String>,
    hotkey: Option<Hotkey>,
    status: Option<life::Status>,
    after: Option<SubmissionId>,
    limit: Option<u32>,
}

async fn submissions(State(app): State<App>, query: Asked<SubmissionsQuery>) -> Answer<Page<views::Submission>> {
    let SubmissionsQuery { challenge, hotkey, status, after, limit } = asked(query)?;
    let filter = views::Filter { challenge, hotkey, status };
    let window = window(after.map_or(0, |id| id.0), limit);
    let mut page = read(&app, move |conn| views::submissions(conn, &filter, window)).await?;
    let facts = app.facts();
    for submission in &mut page.items {
        submission.complete(app.pipeline().challenges(), facts.as_ref());
    }
    Ok(Json(page))
}

async fn submission(State(app): State<App>, id: Named) -> Answer<views::Submission> {
    Ok(Json(one_submission(&app, named(id)?).await?))
}

async fn one_submission(app: &App, id: SubmissionId) -> Result<views::Submission, Failure> {
    let mut submission = read(app, move |conn| views::submission(conn, id)).await?;
    submission.complete(app.pipeline().challenges(), app.facts().as_ref());
    Ok(submission)
}

async fn story(State(app): State<App>, id: Named) -> Answer<views::Story> {
    let id = named(id)?;
    let story = app.pipeline().story(id).await?;
    Ok(Json(views::Story::new(one_submission(&app, id).await?, story)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RankingQuery {
    version: Option<i64>,
}

async fn ranking(State(app): State<App>, challenge: Named, query: Asked<RankingQuery>) -> Answer<views::Ranking> {
    let challenge: String = named(challenge)?;
    let version = asked(query)?.version;
    let slug = app.pipeline().challenge(&challenge)?.slug.clone();
    let found = read(&app, move |conn| views::ranking(conn, &slug, version)).await?;
    let missing = || match version {
        Some(version) => not_found(format!("ranking {version} of `{challenge}`")),
        None => not_found(format!("`{challenge}` has no ranking yet")),
    };
    found.map(Json).ok_or_else(missing)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunsQuery {
    challenge: Option<String>,
    after: Option<RunId>,
    limit: Option<u32>,
}

async fn runs(State(app): State<App>, query: Asked<RunsQuery>) -> Answer<Page<views::Run>> {
    let RunsQuery { challenge, after, limit } = asked(query)?;
    let window = window(after.map_or(i64::MAX, |id| id.0), limit);
    let pipeline = app.pipeline().clone();
    let page = read(&app, move |conn| views::runs(conn, pipeline.challenges(), challenge.as_deref(), window)).await?;
    Ok(Json(page))
}

async fn run(State(app): State<App>, id: Named) -> Answer<views::RunDetail> {
    let id: RunId = named(id)?;
    let pipeline = app.pipeline().clone();
    Ok(Json(read(&app, move |conn| views::run(conn, pipeline.challenges(), id, limits::JOBS)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    after: Option<i64>,
    limit: Option<u32>,
}

async fn weights(State(app): State<App>, query: Asked<PageQuery>) -> Answer<Page<views::Vector>> {
    let PageQuery { after, limit } = asked(query)?;
    let window = window(after.unwrap_or(i64::MAX), limit);
    Ok(Json(read(&app, move |conn| views::vectors(conn, window)).await?))
}

async fn refusals(State(app): State<App>, query: Asked<PageQuery>) -> Answer<Page<views::Refusal>> {
    let PageQuery { after, limit } = asked(query)?;
    let window = window(after.unwrap_or(0), limit);
    Ok(Json(read(&app, move |conn| views::refusals(conn, window)).await?))
}

async fn events(State(app): State<App>, query: Asked<PageQuery>) -> Answer<Page<views::Event>> {
    let PageQuery { after, limit } = asked(query)?;
    let window = window(after.unwrap_or(0), limit);
    Ok(Json(read(&app, move |conn| views::events(conn, window)).await?))
}

async fn evidence(State(app): State<App>, digest: Named) -> Result<Response, Failure> {
    let digest: Digest = named(digest)?;
    if !read(&app, move |conn| views::is_evidence(conn, &digest)).await? {
        return Err(not_found(format!("evidence bundle {digest}")));
    }
    object(&app, digest, "application/octet-stream").await
}

async fn fault_file(State(app): State<App>, id: Named) -> Answer<views::FaultFile> {
    let id = named(id)?;
    let found = read(&app, move |conn| views::fault_file(conn, id)).await?;
    found.map(Json).ok_or_else(|| not_found(format!("{id} was not rejected")))
}

async fn corpus(State(app): State<App>, slug: Named, query: Asked<PageQuery>) -> Answer<Page<views::CorpusEntry>> {
    let slug: String = named(slug)?;
    let slug = app.pipeline().challenge(&slug)?.slug.clone();
    let PageQuery { after, limit } = asked(query)?;
    let window = window(after.unwrap_or(0), limit);
    Ok(Json(read(&app, move |conn| views::corpus(conn, &slug, window)).await?))
}

async fn corpus_object(State(app): State<App>, digest: Named) -> Result<Response, Failure> {
    let digest: Digest = named(digest)?;
    if !read(&app, move |conn| views::is_in_corpus(conn, &digest)).await? {
        return Err(not_found(format!("corpus object {digest}")));
    }
    object(&app, digest, "application/json").await
}

/// A public object of the store.
async fn object(app: &App, digest: Digest, content_type: &'static str) -> Result<Response, Failure> {
    // An object is held in memory while it is sent.
    let place =
        Arc::clone(&app.shared.downloads).try_acquire_owned().map_err(|_full| Failure::busy("too many downloads"))?;
    let bytes = app.pipeline().store().blobs().get(&digest, limits::EVIDENCE_BYTES).await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CONTENT_LENGTH, HeaderValue::from(bytes.len())),
        // What a digest names never changes.
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    let chunks = futures::stream::unfold((bytes, place), async |(mut bytes, place)| {
        let chunk = bytes.split_to(bytes.len().min(CHUNK_BYTES));
        (!chunk.is_empty()).then(|| (Ok::<_, Infallible>(chunk), (bytes, place)))
    });
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// Reads from the database.
async fn read<T: Send + 'static>(
    app: &App,
    look: impl FnOnce(&rusqlite::Connection) -> Result<T, pipeline::Error> + Send + 'static,
) -> Result<T, Failure> {
    Ok(app.pipeline().store().db().read(look).await?)
}

/// The rows that are asked for, within our limit.
fn window(after: i64, limit: Option<u32>) -> Window {
    Window { after, limit: limit.unwrap_or(limits::PAGE_ROWS_DEFAULT).clamp(1, PAGE_ROWS) }
}

/// The query, or what is wrong with it.
pub(super) fn asked<T: DeserializeOwned>(query: Asked<T>) -> Result<T, Failure> {
    query.map(|Query(query)| query).map_err(|rejection| malformed(rejection.body_text()))
}

/// The last part of the path as what it names.
fn named<T: std::str::FromStr<Err: std::fmt::Display>>(name: Named) -> Result<T, Failure> {
    let Path(name) = name.map_err(|rejection| malformed(rejection.body_text()))?;
    name.parse().map_err(|error: T::Err| malformed(error.to_string()))
}

fn malformed(detail: String) -> Failure {
    Failure::new(QUERY_MALFORMED, StatusCode::BAD_REQUEST, detail)
}

fn not_found(detail: String) -> Failure {
    Failure::new(NOT_FOUND, StatusCode::NOT_FOUND, detail)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn pages_are_bounded_at_both_ends() {
        let limit = |limit| window(0, limit).limit;
        assert_eq!(limit(None), limits::PAGE_ROWS_DEFAULT);
        assert_eq!(limit(Some(0)), 1);
        assert_eq!(limit(Some(PAGE_ROWS)), PAGE_ROWS);
        assert_eq!(limit(Some(PAGE_ROWS + 1)), PAGE_ROWS);
    }
}
