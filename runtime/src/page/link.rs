//! The address with a link that lets a browser in, as text and as a picture for a phone's camera.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// Addresses of documentation's networks, to which nothing is sent. Sources: RFC 5737, RFC 3849.
const ELSEWHERE: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];

/// What the host is called; empty if it has no name.
pub fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// Addresses under which a page that listens at `address` can be opened with a link: on the board itself its own, else
/// that of the network which the board's way out leads through, and the host's name there.
pub fn links(address: SocketAddr, token: &str) -> Vec<String> {
    let mut hosts = Vec::new();
    if address.ip().is_unspecified() {
        hosts.extend(ELSEWHERE.iter().filter_map(|elsewhere| way_out(elsewhere)).map(host_of));
        let name = host_name();
        if !name.is_empty() && name != "localhost" {
            hosts.push(format!("{name}.local"));
        }
    } else {
        hosts.push(host_of(address.ip()));
    }
    hosts.into_iter().map(|host| format!("http://{host}:{}/enter?link={token}", address.port())).collect()
}

fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Our own address on the way to another one. Nothing is sent.
fn way_out(elsewhere: &str) -> Option<IpAddr> {
    let any = if elsewhere.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(elsewhere).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

/// A text as a QR code of half blocks, dark on light whatever the terminal's colours are: nothing for a text that is too
/// long for one.
pub fn qr_code(text: &str) -> Option<String> {
    let code = QrCode::new(text).ok()?;
    // Light modules are drawn, so that the code is dark on light where the background is dark.
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_where_the_page_listens() {
        assert_eq!(links("127.0.0.1:8020".parse().unwrap(), "t"), ["http://127.0.0.1:8020/enter?link=t"]);
        assert_eq!(links("[::1]:80".parse().unwrap(), "t"), ["http://[::1]:80/enter?link=t"]);
        for link in links("0.0.0.0:8020".parse().unwrap(), "t") {
            assert!(link.ends_with(":8020/enter?link=t") && !link.contains("0.0.0.0"), "{link}");
        }
    }

    #[test]
    fn a_code_is_a_square_with_a_quiet_border() {
        let code = qr_code("http://192.168.1.7:8020/enter?link=l.1795000000.0011223344556677.00112233").unwrap();
        let lines: Vec<&str> = code.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()));
        assert!(lines[0].chars().all(|c| c == '█'), "{code}");
        assert_eq!(qr_code(&"x".repeat(10_000)), None);
    }
}
