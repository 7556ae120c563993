use session_refresh::session_refresh;

#[session_refresh]
#[utoipa::path(get, path = "/", responses((status = 200)))]
async fn handler() {}

fn main() {}
