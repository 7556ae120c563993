use session_refresh::session_refresh;

struct Page;

#[session_refresh]
async fn handler() -> Page {
    Page
}

fn main() {}
