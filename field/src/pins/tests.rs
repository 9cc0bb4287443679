use super::*;

const NOW: Duration = Duration::ZERO;

fn pins() -> Pins {
    Pins { trigger: Some(4), led: Some(17), lamp: Some(27), ..Pins::default() }
}

#[test]
fn a_trigger_tells_when_it_begins_and_ends() {
    for (active_low, first) in [(false, Edge::Begins), (true, Edge::Ends)] {
        let driver = FakeDriver::new();
        let (wires, faults) = Wires::open_with(&driver, &Pins { trigger_active_low: active_low, ..pins() });
        assert!(faults.is_empty());
        let mut trigger = wires.trigger.unwrap();
        assert_eq!(trigger.wait(NOW).unwrap(), None);
        driver.drive(4, Level::High);
        driver.drive(4, Level::Low);
        assert_eq!(trigger.wait(NOW).unwrap(), Some(first));
        assert_ne!(trigger.wait(NOW).unwrap(), Some(first));
        assert_eq!(trigger.wait(NOW).unwrap(), None);
    }
}

#[test]
fn a_switch_starts_and_ends_off_and_is_set_only_when_it_changes() {
    let driver = FakeDriver::new();
    let (wires, _) = Wires::open_with(&driver, &Pins { lamp_active_low: true, ..pins() });
    let (mut led, mut lamp) = (wires.led.unwrap(), wires.lamp.unwrap());
    for light in [Light::Off, Light::On, Light::On, Light::Off, Light::On] {
        led.set(light).unwrap();
    }
    lamp.set(Light::On).unwrap();
    drop((led, lamp));
    assert_eq!(driver.levels(17), [Level::Low, Level::High, Level::Low, Level::High, Level::Low]);
    assert_eq!(driver.levels(27), [Level::High, Level::Low, Level::High]);
}

#[test]
fn a_wire_that_cannot_be_opened_is_told_and_the_others_work() {
    let broken = Some(FakeDriver::BROKEN);
    let (wires, faults) = Wires::open_with(&FakeDriver::new(), &Pins { trigger: broken, ..pins() });
    assert!(wires.trigger.is_none() && wires.led.is_some() && wires.lamp.is_some());
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["pin 13 (pins.trigger): the pin is broken"]);
}

#[test]
fn no_wires_need_no_driver() {
    let profile = BoardProfile::named("5").unwrap();
    let (wires, faults) = Wires::open(&Pins::default(), profile, Some("Raspberry Pi 5 Model B Rev 1.0"));
    assert!(wires.driver.is_none() && faults.is_empty());
}

#[test]
fn a_machine_without_pins_says_so_and_goes_on() {
    let profile = BoardProfile::named("x86-host").unwrap();
    // This may be a board that has the chips after all; what is named here is on none.
    let nowhere = Pins { chip: Some("pinctrl-nowhere".to_owned()), ..pins() };
    let (wires, faults) = Wires::open(&nowhere, profile, Some("Raspberry Pi 5"));
    assert!(wires.led.is_none() && wires.driver.is_none());
    let told = faults[0].to_string();
    assert!(told.starts_with("there is no GPIO chip \"pinctrl-nowhere\": "), "{told}");
    let device = Pins { chip: Some("/dev/null".to_owned()), driver: PinDriver::Gpiocdev, ..pins() };
    let told = Wires::open(&device, profile, None).1[0].to_string();
    assert!(told.starts_with("there is no GPIO chip \"/dev/null\": "), "{told}");
}

#[test]
fn a_raspberry_that_rppal_cannot_open_is_tried_by_its_chip() {
    if std::path::Path::new("/proc/device-tree/model").exists() {
        return;
    }
    let profile = BoardProfile::named("5").unwrap();
    let (wires, faults) = Wires::open(&pins(), profile, Some("Raspberry Pi 5 Model B Rev 1.0"));
    assert!(wires.driver.is_none());
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(told[0].starts_with("the pins cannot be driven by rppal: "), "{told:?}");
    assert!(told[1].starts_with("there is no GPIO chip \"pinctrl-rp1\": "), "{told:?}");
}
