"""The made-up APIs: parameters of each, and the wording of requests. The splits share neither APIs nor keys."""

from dataclasses import dataclass

from rolewise.generator.arguments import (
    Slot,
    clock,
    code,
    minutes,
    number,
    option,
    person,
    pieces,
    place,
    share,
    stay,
    title,
)


@dataclass(frozen=True)
class Api:
    """One API. Requests are infinitive clauses with each slot's name in braces.

    The first slot is always a copy, so that "do the same for …" can request a second call with another value there.
    APIs of the same `field` look alike and make the hardest distractors.
    """

    field: str
    stem: str
    description: str
    slots: dict[str, Slot]
    requests: tuple[str, ...]


TRAIN_APIS = (
    Api(
        "travel",
        "book_room",
        "Book a hotel room",
        {"town": place("town"), "guest": person("guest"), "stay": stay("arrive_day", "leave_day", "nights")},
        (
            "book a room in {town} for {guest} {stay}",
            "get {guest} a hotel room in {town} {stay}",
            "find {guest} a bed {stay}, somewhere in {town}",
        ),
    ),
    Api(
        "travel",
        "cancel_room",
        "Cancel a hotel booking",
        {"booking": code("booking_code"), "refund": option("refund", a_refund="money", a_voucher="voucher")},
        (
            "cancel hotel booking {booking} and ask for {refund}",
            "call off the stay under {booking}, taking {refund} in return",
            "drop reservation {booking} against {refund}",
        ),
    ),
    Api(
        "travel",
        "find_train",
        "Search train connections",
        {"origin": place("origin"), "goal": place("destination"), "time": clock("departs_at")},
        (
            "find a train from {origin} to {goal} at {time}",
            "look up how to get to {goal} by rail out of {origin}, leaving at {time}",
            "see which train leaves {origin} at {time} bound for {goal}",
        ),
    ),
    Api(
        "travel",
        "rent_bike",
        "Rent a bicycle",
        {"station": place("station"), "rider": person("rider"), "length": minutes("rental_minutes")},
        (
            "rent {rider} a bike at {station} for {length}",
            "get a bicycle for {length} from the {station} stand, in the name of {rider}",
            "reserve {length} of cycling for {rider}, picking the bike up in {station}",
        ),
    ),
    Api(
        "food",
        "order_pastry",
        "Order pastries from a bakery",
        {"kind": title("pastry_kind"), "pieces": pieces("pieces", "trays"), "to": person("collected_by")},
        (
            "order {pieces} of the {kind} pastry for {to}",
            "buy {pieces} of those {kind} buns, which {to} fetches",
            "have the bakery make {to} {pieces} of its {kind} tarts",
        ),
    ),
    Api(
        "food",
        "book_table",
        "Reserve a restaurant table",
        {"where": title("venue"), "people": number("diners"), "time": clock("seating")},
        (
            "reserve a table for {people} at the {where} at {time}",
            "get us into the {where} restaurant, {people} people, at {time}",
            "hold {people} seats at {time} in the {where} dining room",
        ),
    ),
    Api(
        "weather",
        "get_forecast",
        "Weather forecast for a city",
        {"city": place("city"), "units": option("units", Celsius="metric", Fahrenheit="imperial")},
        (
            "tell me the weather in {city} in {units}",
            "check how warm {city} will be, in degrees {units}",
            "give me a {units} forecast for {city}",
        ),
    ),
    Api(
        "weather",
        "read_tides",
        "Tide table of a harbour",
        {"harbour": place("harbour"), "days": number("day_count")},
        (
            "show the tides at {harbour} for the coming {days} days",
            "read me {days} days of the {harbour} tide table",
            "find when the water is high in {harbour} over {days} days",
        ),
    ),
    Api(
        "office",
        "plan_meeting",
        "Put a meeting in the calendar",
        {"topic": title("topic"), "time": clock("starts_at"), "length": minutes("length_minutes")},
        (
            "plan a meeting on the {topic} plan at {time}, lasting {length}",
            "block {length} from {time} to talk over the {topic} idea",
            "put the {topic} review in the calendar for {time} with {length} set aside",
        ),
    ),
    Api(
        "office",
        "set_reminder",
        "Set a reminder",
        {"note": title("note"), "time": clock("ring_at")},
        (
            "remind me of the {note} at {time}",
            "set an alert at {time} that says {note}",
            "make my phone ring at {time} for the {note} errand",
        ),
    ),
    Api(
        "office",
        "print_file",
        "Print a stored file",
        {
            "file": code("file_id"),
            "copies": pieces("copies", "stacks"),
            "ink": option("in_colour", colour=True, grey=False),
        },
        (
            "print {copies} of file {file} in {ink}",
            "run off {copies} of {file}, in {ink}",
            "send {file} to the {ink} printer, {copies}",
        ),
    ),
    Api(
        "store",
        "ship_parcel",
        "Ship a parcel",
        {
            "parcel": code("parcel_id"),
            "to": person("recipient"),
            "speed": option("service", as_fast_as_possible="express", without_any_hurry="economy"),
        },
        (
            "ship parcel {parcel} to {to} {speed}",
            "get package {parcel} over to {to} {speed}",
            "send {to} the box marked {parcel} {speed}",
        ),
    ),
    Api(
        "store",
        "move_stock",
        "Move crates between bays",
        {"crate": code("crate_type"), "bay": place("target_bay"), "pieces": pieces("quantity", "pallets")},
        (
            "move {pieces} of item {crate} to the {bay} bay",
            "bring {pieces} of {crate} over to bay {bay}",
            "shift {crate} stock, {pieces}, into {bay}",
        ),
    ),
    Api(
        "money",
        "convert_money",
        "Convert euros to another currency",
        {
            "account": code("account_id"),
            "amount": share("euro_sum"),
            "to": option("target", American_dollars="USD", Japanese_yen="JPY", British_pounds="GBP"),
        },
        (
            "change one share in euros, {amount}, into {to} on account {account}",
            "turn my part, {amount}, into {to}, from account {account}",
            "exchange on {account} the euros that each gets, {amount}, for {to}",
        ),
    ),
    Api(
        "money",
        "pay_invoice",
        "Pay an invoice",
        {"invoice": code("invoice_id"), "payee": person("payee"), "share": share("amount")},
        (
            "pay {payee} my part of invoice {invoice}, that is {share}",
            "settle {invoice} with {payee} by one share of {share}",
            "transfer my share of {share} to {payee} for bill {invoice}",
        ),
    ),
)

EVAL_APIS = (
    Api(
        "clinic",
        "schedule_checkup",
        "Make a doctor's appointment",
        {"patient": person("patient"), "clinic": place("clinic_site"), "time": clock("visit_time")},
        (
            "make an appointment for {patient} at the {clinic} clinic at {time}",
            "have the doctor in {clinic} see {patient} at {time}",
        ),
    ),
    Api(
        "clinic",
        "refill_tablets",
        "Refill a prescription",
        {"script": code("script_id"), "count": pieces("tablet_total", "strips"), "whose": person("holder")},
        ("refill prescription {script} of {whose} with {count}", "top up the tablets of {whose} on {script}, {count}"),
    ),
    Api(
        "garden",
        "water_plot",
        "Run the sprinklers",
        {"plot": title("plot"), "length": minutes("run_minutes")},
        ("water the {plot} bed for {length}", "let the sprinkler by the {plot} run {length}"),
    ),
    Api(
        "garden",
        "sow_seeds",
        "Plan a sowing",
        {"sort": title("species"), "count": pieces("seed_total", "furrows")},
        ("sow {count} of the {sort} bean", "plan a bed with {count} of {sort} seedlings"),
    ),
    Api(
        "museum",
        "buy_passes",
        "Buy museum passes",
        {
            "show": title("exhibit"),
            "people": number("visitors"),
            "audio": option("audio_guide", an_audio_guide=True, no_audio_guide=False),
        },
        (
            "buy {people} passes for the {show} show with {audio}",
            "get {people} of us, with {audio}, into the {show} hall",
        ),
    ),
    Api(
        "museum",
        "hire_guide",
        "Hire a tour guide",
        {"guide": person("guide"), "language": option("language", Spanish="es", Polish="pl", Turkish="tr")},
        ("hire {guide} for a tour in {language}", "ask {guide} to show us round, speaking {language}"),
    ),
    Api(
        "freight",
        "track_cargo",
        "Track a shipment",
        {"bill": code("waybill"), "detail": option("detail", only_the_last_stop="brief", every_stop="full")},
        ("track cargo {bill} and list {detail}", "see where {bill} is, showing {detail}"),
    ),
    Api(
        "freight",
        "quote_freight",
        "Price for sea freight",
        {
            "port": place("port"),
            "load": pieces("load", "containers"),
            "unit": option("weight_unit", kilograms="kg", tonnes="t"),
        },
        ("price {load} bound for {port}, counted in {unit}", "quote sea freight to {port} in {unit} for {load}"),
    ),
    Api(
        "garage",
        "hire_van",
        "Hire a van",
        {"driver": person("driver"), "depot": place("depot"), "days": stay("from_day", "until_day", "days")},
        ("hire a van for {driver} at {depot} {days}", "get {driver} a van out of the {depot} yard {days}"),
    ),
    Api(
        "garage",
        "check_tyres",
        "Book a tyre check",
        {"plate": code("plate"), "owner": person("owner"), "time": clock("drop_off")},
        ("have the tyres of {plate} looked at for {owner} at {time}", "book {plate} of {owner} in for tyres at {time}"),
    ),
    Api(
        "music",
        "reserve_studio",
        "Reserve a recording studio",
        {"artist": person("artist"), "time": clock("session_start"), "length": minutes("session_minutes")},
        (
            "reserve the studio for {artist} at {time}, {length} long",
            "give {artist} {length} in the studio from {time}",
        ),
    ),
    Api(
        "music",
        "pay_royalty",
        "Pay out a royalty",
        {"track": title("track_title"), "share": share("payout")},
        ("pay out one part of the {track} royalties, {share}", "send a band member's cut for {track}: {share}"),
    ),
)
