//! Other people's ways to write routes: utoipa-axum, axum-extra's typed paths, aide.

use aide::{NoApi, axum::ApiRouter, openapi::OpenApi};
use axum::{Json, Router, extract::Path, response::Response, routing::get};
use axum_extra::routing::{RouterExt as _, TypedPath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use session_refresh::{
    Decided, FromLayer, Policy, RefreshInfo, RefreshLayer, RefreshPolicy, session_refresh,
};
use session_refresh_tests::{Setup, Site};
use time::Duration;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Somebody logs in: the first request refreshes, the second is not due.
async fn assert_refreshed_once(site: &Site, path: &str) {
    let client = site.login("user").await;
    for outcome in ["refreshed", "not_due"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status.as_u16(), answer.outcome()), (200, outcome));
    }
}

/// What the user has put into the cart.
#[utoipa::path(
    get,
    path = "/carts/{id}",
    params(("id" = u64, Path, description = "whose cart")),
    responses((status = 200, body = [String], description = "the items"))
)]
#[session_refresh(interval = "1h")]
async fn cart(Path(id): Path<u64>, refresh: RefreshInfo) -> Json<Vec<String>> {
    Json(vec![id.to_string(), refresh.outcome.to_string()])
}

/// Empties it.
#[utoipa::path(delete, path = "/carts/{id}", responses((status = 204)))]
#[session_refresh]
async fn empty_cart() {}

#[tokio::test]
async fn a_handler_under_utoipas_attribute_is_documented_and_refreshes() {
    let (routes, document) = OpenApiRouter::new()
        .routes(routes!(cart, empty_cart))
        .split_for_parts();
    let site = Setup::new(routes).start().await;
    assert_refreshed_once(&site, "/carts/7").await;

    let document = serde_json::to_value(document).unwrap();
    let path = &document["paths"]["/carts/{id}"];
    let operation = &path["get"];
    assert_eq!(operation["summary"], "What the user has put into the cart.");
    assert_eq!(operation["operationId"], "cart");
    assert_eq!(operation["parameters"][0]["description"], "whose cart");
    assert_eq!(
        operation["responses"]["200"]["description"], "the items",
        "{document:#}"
    );
    assert_eq!(path["delete"]["operationId"], "empty_cart");
}

#[derive(Debug, Deserialize, TypedPath)]
#[typed_path("/users/{name}")]
struct UserPath {
    name: String,
}

#[session_refresh(interval = "1h")]
async fn user(UserPath { name }: UserPath, refresh: RefreshInfo) -> String {
    format!("{name} {}", refresh.outcome)
}

#[session_refresh(interval = "1h")]
async fn rename(path: UserPath, body: String) -> String {
    format!("{} {body}", path.name)
}

#[tokio::test]
async fn a_typed_path_is_the_first_argument_of_an_annotated_handler() {
    let routes = Router::new().typed_get(user).typed_post(rename);
    let site = Setup::new(routes).start().await;
    assert_refreshed_once(&site, "/users/ann").await;
    let client = site.login("user").await;
    assert_eq!(client.get("/users/a%20b").await.text, "a b refreshed");
    let answer = client.post_body("/users/ann", "Anna").await;
    assert_eq!(
        (answer.text.as_str(), answer.outcome()),
        ("ann Anna", "not_due")
    );
}

struct Hourly;

impl RefreshPolicy for Hourly {
    type User = FromLayer;
    const POLICY: Policy = Policy::every(Duration::HOUR);
}

/// What the attribute writes, by hand.
async fn link(decided: Decided<Hourly, UserPath>) -> Response {
    let link = format!("{decided} {}", decided.to_uri());
    let (stamp, _) = decided.into_parts();
    stamp.after(async move { link }).await
}

#[tokio::test]
async fn a_decided_typed_path_leads_to_where_its_path_does() {
    let site = Setup::new(Router::new().typed_get(link)).start().await;
    let client = site.login("user").await;
    let answer = client.get("/users/a%20b").await;
    assert_eq!(answer.text, "/users/a%20b /users/a%20b");
}

#[derive(Serialize, JsonSchema)]
struct Dashboard {
    outcome: String,
}

/// What aide documents is in the handler's types, so they stay as they are: the policy is a layer's.
async fn dashboard(NoApi(refresh): NoApi<RefreshInfo>) -> Json<Dashboard> {
    Json(Dashboard {
        outcome: refresh.outcome.to_string(),
    })
}

#[tokio::test]
async fn a_route_of_aide_refreshes_under_a_layers_policy_and_is_documented() {
    let mut document = OpenApi::default();
    let routes = ApiRouter::new()
        .api_route("/dashboard", aide::axum::routing::get(dashboard))
        .layer(RefreshLayer::new().policy(Policy::every(Duration::HOUR)))
        .finish_api(&mut document);
    let site = Setup::new(routes.route("/", get(async || ())))
        .start()
        .await;
    assert_refreshed_once(&site, "/dashboard").await;

    let document = serde_json::to_value(document).unwrap();
    let answer = &document["paths"]["/dashboard"]["get"]["responses"]["200"];
    let schema = &answer["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(schema, "#/components/schemas/Dashboard", "{document:#}");
}
