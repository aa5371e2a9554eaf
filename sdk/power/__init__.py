"""Meters: how much energy the device has used, and where that number comes from."""

from sdk.power.app import AppMeter
from sdk.power.discovery import MeterInfo, discover, find_meter, open_meter
from sdk.power.meter import Meter, MeterError
from sdk.power.modeled import ModeledMeter
from sdk.power.sensors import Sensor, find_battery, find_thermometer
from sdk.power.window import EnergyWindow

__all__ = [
    "AppMeter",
    "EnergyWindow",
    "Meter",
    "MeterError",
    "MeterInfo",
    "ModeledMeter",
    "Sensor",
    "discover",
    "find_battery",
    "find_meter",
    "find_thermometer",
    "open_meter",
]
