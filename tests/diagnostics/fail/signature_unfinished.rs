use session_refresh::session_refresh;

#[session_refresh(interval = "24h")]
async fn handler(refresh: ) -> String {
    String::new()
}

fn main() {}
