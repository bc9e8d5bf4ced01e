"""The wordings of the domain: three slots a section, several sentences a slot.

A sentence holds facts in braces and free choices in brackets: `[calm|quiet] and {colour}`. All sentences
of a slot state the same facts, so every combination of sentences is a complete section. No fact follows
"a" or "an", so none has to agree with its article.
"""
# Every sentence on one line, lists of words as text: this file is read and edited by hand.
# ruff: noqa: E501, SIM905

from __future__ import annotations

from collections.abc import Mapping

Slot = tuple[str, ...]
"""Sentences of which one is written."""

SECTIONS: Mapping[str, tuple[Slot, ...]] = {
    "Name": (
        (
            "The new {product} from {town} is called {name}.",
            "We [call|named] our new {product} {name}, a word that nobody in {town} has used before.",
            "After [long talks|many evenings] in {town} we settled on {name} as the name of the {product}.",
            "From today on the {product} that we build in {town} goes by the name {name}.",
            "Our workshop in {town} gives its [latest|newest] {product} the name {name}.",
        ),
        (
            "It comes in {colour} {material}, [strong and light|warm and light] at the same time.",
            "The body is made of {material}, and the only colour we offer is {colour}.",
            "We chose {material} for the body and {colour} for the finish, since the two [age|wear] well.",
            "Its {material} parts are finished in {colour}, so that it is easy to [spot|recognise].",
            "Look for {colour} {material}: that is how you [know|recognise] it in any shop window.",
        ),
        (
            "Most {audience} remember it after hearing it once.",
            "In our tests {audience} could spell it [at once|without help].",
            "We asked many {audience} and they [liked|loved] the sound.",
            "It is easy to say, as {audience} [wanted|had asked].",
            "To most {audience} it sounds [friendly|honest] and bold.",
        ),
    ),
    "Price": (
        (
            "One {product} will cost ${price}, with all taxes [paid|included].",
            "The price of the {product} is ${price} and it [stays|will stay] the same all year.",
            "We [set|fixed] the price at ${price} for every {product} that leaves the shop.",
            "At ${price} the {product} is neither cheap nor [dear|expensive].",
            "Anyone can buy the {product} for ${price}, online or [in the shop|at the door].",
        ),
        (
            "That is below ${limit} and pays fair wages in {town}.",
            "The plan in {town} allowed up to ${limit}.",
            "The limit was ${limit}, and {town} [kept|managed] it.",
            "It stays below ${limit}, as {town} had [asked|hoped].",
            "With ${limit} as the bound, {town} [agreed|said yes].",
        ),
        (
            "Every buyer gets {years} years of guarantee, which {audience} [value|notice] most.",
            "The guarantee lasts {years} years, because {audience} use their things every day.",
            "For {years} years we repair it free of charge, a [promise|rule] that {audience} trust.",
            "We add {years} years of free repair, so {audience} [pay once and relax|need not worry].",
            "There are {years} years of guarantee on top, [just as|as] {audience} had hoped.",
        ),
    ),
    "Launch": (
        (
            "The launch takes place at {place} on {day}, {date}.",
            "We have [booked|rented] {place} for {day}, {date}, and the room is confirmed.",
            "On {day}, {date}, we open the doors of {place} for everybody.",
            "Please note the day: {day}, {date}, and the place: {place}.",
            "It all [begins|starts] on {day}, {date}, in the great room of {place}.",
        ),
        (
            "At {hour} we lift the curtain and show the {product} for the first time.",
            "The {product} is shown at {hour}, and after that there is [music|food] for all.",
            "We start at {hour} sharp, and the {product} can be tried as long as you like.",
            "From {hour} on every guest may touch, test and [turn over|pick up] the {product}.",
            "A short speech at {hour} opens the day, then the {product} has the stage.",
        ),
        (
            "Entry is free for all {audience} of {town}.",
            "The {audience} of {town} get the [front rows|best seats].",
            "The {audience} of {town} get a [warm|special] welcome.",
            "There is room for a hundred {audience} from {town}.",
            "Half of {town} and all {audience} are [welcome|invited].",
        ),
    ),
    "Slogan": (
        (
            "Our line is: {name}, {adj1} and {adj2}.",
            "On every wall it will say: {adj1}, {adj2}, {name}.",
            "The slogan reads: as {adj1} as you, as {adj2} as {name}.",
            "We want people to [think|say]: how {adj1}, how {adj2}, this must be {name}.",
            "Three words are enough: {name}, {adj1}, {adj2}.",
        ),
        (
            "It was [tested|tried] on the streets of {town}, where people smiled at it.",
            "A teacher from {town} read it aloud, and the whole room [nodded|clapped].",
            "In {town} it will hang above the station, in large and friendly letters.",
            "The printers of {town} have it ready on paper, on cloth and on [glass|tin].",
            "Every bus in {town} will carry it through the [winter|summer].",
        ),
        (
            "It tells {audience} what the {product} is for, without a single hard word.",
            "For {audience} it says in one breath why this {product} is [different|worth it].",
            "It is meant for {audience}, who have no time to read long texts about any {product}.",
            "It makes {audience} curious, and a curious person will [try|pick up] the {product}.",
            "When {audience} hear it on the radio they know that a {product} is meant.",
        ),
    ),
    "Design": (
        (
            "The look of {name} is calm, with a deep {colour} that stays fresh for years.",
            "Every line of {name} has a reason, and the {colour} surface [hides|forgives] small marks.",
            "We drew {name} again and again until the {colour} shape looked simple.",
            "Seen from afar {name} is one clear {colour} line, [quiet|modern] and sure of itself.",
            "There is nothing loud about {name}, only soft edges and a [rich|warm] {colour}.",
        ),
        (
            "The {material} frame carries the weight and feels [warm|pleasant] in the hand.",
            "We left the {material} bare on the inside, because it is [beautiful|honest] as it is.",
            "All visible parts are {material}, cut and joined by hand.",
            "Where others use plastic we use {material}, which can be [mended|repaired] for ever.",
            "A thin layer of {material} runs around the edge and [protects|guards] it from knocks.",
        ),
        (
            "You can open the {product} with one simple tool and change any part yourself.",
            "The {product} fits into any home and takes up [little|hardly any] room.",
            "No screw of the {product} can be seen, and yet nothing is glued.",
            "Even after years of use the {product} looks as it did on the [first|very first] day.",
            "Whoever picks up the {product} finds out how it works within a minute.",
        ),
    ),
    "Care": (
        (
            "To keep {name} in good shape, wipe the {material} with a [soft|dry] cloth once a week.",
            "The {material} of {name} needs no more than a little [warm water|soap] now and then.",
            "Never leave {name} in the rain, for {material} does not like [long|heavy] showers.",
            "With a drop of oil in spring the {material} of {name} will last for [decades|ever].",
            "Dust is all that {name} fears, so brush the {material} from time to time.",
        ),
        (
            "The {colour} will not fade in the sun, but a [dark|cool] corner is better.",
            "Small scratches in the {colour} can be covered with the pen in the box.",
            "If the {colour} looks tired, a bit of wax brings it back.",
            "Use no strong cleaner, since it would [harm|dull] the {colour}.",
            "After a year the {colour} grows a little deeper, and that is [normal|intended].",
        ),
        (
            "These rules are on a card, because {audience} asked for [clear|short] advice.",
            "For {audience} with little time we offer a yearly check at no cost.",
            "Most {audience} need five minutes a month for all of this.",
            "We show all of it in a film for {audience}, and it is [short|fun] to watch.",
            "Our help line for {audience} is open every morning and knows the rest.",
        ),
    ),
    "Reminder": (
        (
            "Please keep {day}, {date}, free and write it on the wall of the office.",
            "Do not forget: {day}, {date}, is the day we have all been [waiting|working] for.",
            "Mark {day}, {date}, in red, and tell your friends about it.",
            "A short note to all of you: we meet on {day}, {date}, rain or shine.",
            "Only a few days are left until {day}, {date}, so let us get [ready|things done].",
        ),
        (
            "The team meets at {place} one hour before the doors open.",
            "We start from the back door of {place}, so bring your [badge|key].",
            "At {place} there are hot drinks and a list with all the tasks.",
            "Please come to {place} by bus, because there is [no|little] room for cars.",
            "Everyone goes straight to {place} and asks for the blue desk.",
        ),
        (
            "Bring one friend from {town} and one question about the {product}.",
            "Whoever lives in {town} brings a chair, and the rest bring the {product} boxes.",
            "We need two more people from {town} who can [explain|show] the {product}.",
            "Call us in {town} if you are ill, so that someone else can carry the {product}.",
            "Wear the shirt from {town}, the one with the picture of the {product}.",
        ),
    ),
    "Delivery": (
        (
            "The price is ${price} and delivery adds ${fee}, so the full bill is ${total}.",
            "To the ${price} in the shop we add ${fee} for the parcel, which makes ${total} in all.",
            "With ${fee} for delivery on top of ${price} you pay ${total} at the end.",
            "Sent to your home it is ${price} plus ${fee}, together ${total} and not a cent more.",
            "Take ${price}, add the ${fee} for the driver, and you [get|arrive at] ${total}.",
        ),
        (
            "Every parcel leaves {town} within {days} days, well wrapped in paper.",
            "From {town} it takes {days} days to reach your door, [even|also] in winter.",
            "Our driver in {town} needs {days} days for the whole round.",
            "Allow {days} days for the way from {town}, and one more before a holiday.",
            "It is packed in {town} and rings at your door {days} days later.",
        ),
        (
            "We show this sum early, because {audience} do not like surprises when they order a {product}.",
            "Many {audience} live far away, and for them a {product} by post is a real help.",
            "If the {product} does not please, {audience} send it back for free.",
            "Most {audience} choose this way, since a {product} is awkward to carry.",
            "For {audience} who are out all day a neighbour may take in the {product}.",
        ),
    ),
    "Offer": (
        (
            "In the first week we take ${cut} off the price of {name}.",
            "Members of our club [save|keep] ${cut} when they order {name} early.",
            "For a short time {name} is ${cut} cheaper than usual.",
            "Whoever brings this page gets {name} with ${cut} off.",
            "To say hello we make {name} cheaper by ${cut} for the [early|first] buyers.",
        ),
        (
            "Instead of ${price} they pay only ${club}, and the guarantee stays the same.",
            "The normal price is ${price}, the club price is ${club}.",
            "That brings it down from ${price} to ${club}, as long as there is stock.",
            "So the bill says ${club} and not ${price}, with no more forms to fill in.",
            "You will see ${price} crossed out and ${club} [beside|below] it in green.",
        ),
        (
            "It is a small thank you to the {audience} of {town} who tested with us.",
            "The offer is meant for {audience} and is valid in {town} and online.",
            "In {town} the desk by the door is kept open late for {audience}.",
            "All {audience} from {town} may use it once, and so may a friend.",
            "We hope that {audience} near {town} will [spread|pass on] the word.",
        ),
    ),
    "Bundle": (
        (
            "Three friends may order together: three times ${price} for {name} makes ${three}.",
            "A set of three {name} at ${price} each comes to ${three}.",
            "Take {name} three times and you pay three times ${price}, which is ${three}.",
            "We pack {name} in threes, and at ${price} a piece that makes ${three}.",
            "For a family we count three {name}, each ${price}, so ${three} for the goods.",
        ),
        (
            "One parcel for ${fee} is enough, and the whole bill is ${bundle}.",
            "Delivery is paid only once, ${fee}, and brings the sum to ${bundle}.",
            "Add ${fee} for the common parcel and you reach ${bundle}.",
            "With a single delivery of ${fee} it is ${bundle} for everything.",
            "The post takes ${fee} for the set, so please have ${bundle} ready.",
        ),
        (
            "Compared with three parcels {audience} save ${save} and a lot of paper.",
            "That saves {audience} ${save} of postage and us two trips.",
            "So {audience} who [share|team up] keep ${save} that the post would have had.",
            "It is ${save} less postage than three single orders, which {audience} will notice.",
            "We like it when {audience} order together, and the ${save} saved are yours.",
        ),
    ),
    "Poster": (
        (
            "Across the top of the poster runs the line {name}, {adj1} and {adj2}, in bold type.",
            "The poster shows {name} in the middle, {adj1} on the left and {adj2} on the right.",
            "In large letters the poster says {adj1}, {adj2}, and below them {name}.",
            "First the eye reads {name}, then {adj1}, then {adj2}, each on a line of its own.",
            "A hand holds up a sign with the words {adj1} and {adj2}, and under it stands {name}.",
        ),
        (
            "The lower half gives {place} and {day}, {date}, in plain black.",
            "Under the picture we print {day}, {date}, and the way to {place}.",
            "A yellow band says {place}, {day}, {date}, so that nobody [asks|gets lost].",
            "At the bottom one reads where and when: {place}, on {day}, {date}.",
            "A small map leads to {place}, and next to it stands {day}, {date}.",
        ),
        (
            "The hour, {hour}, is set inside a drawing of the {product}, and {town} is in the corner.",
            "We print it in {town}, with {hour} in a circle and the {product} as a shadow.",
            "Beside the {product} there is a clock that shows {hour}, and {town} in small type.",
            "The {product} points at {hour} like a hand of a clock over the roofs of {town}.",
            "All shops in {town} get one, with the {product} and {hour} in bright ink.",
        ),
    ),
    "Invitation": (
        (
            "Dear {audience}, you are invited to meet {name}, dressed in {colour} {material}.",
            "Dear {audience}, come and see {name}, all in {material} and {colour}.",
            "Hello to all {audience}, it is time to show you {name} in its {colour} {material}.",
            "Dear {audience}, the wait is over, and {name} in {material}, coloured {colour}, is here.",
            "To all {audience}: we would love you to try {name}, with its {colour} finish on {material}.",
        ),
        (
            "Join us at {place} on {day}, {date}, at {hour}.",
            "Be there on {day}, {date}, when the doors of {place} open at {hour}.",
            "We meet at {hour} at {place}, and the day is {day}, {date}.",
            "The place is {place}, the day is {day}, {date}, the hour is {hour}.",
            "At {hour} on {day}, {date}, we wait for you in front of {place}.",
        ),
        (
            "Guests take home the {product} for the club price of ${club}, only in {town}.",
            "As a friend of {town} you pay ${club} for the {product} on that day.",
            "Bring ${club} if you want to carry a {product} home, and stay for the songs of {town}.",
            "For ${club} the {product} is yours, and the bakers of {town} offer cake.",
            "There are drinks from {town}, and the {product} is sold for ${club}.",
        ),
    ),
    "Summary": (
        (
            "In short, {name} is the {product} in {colour} {material}.",
            "To sum up, we build the {product} {name} from {material} and paint it {colour}.",
            "All in all the {product} is ready: its name is {name}, its body {material}, its colour {colour}.",
            "So this is {name}, our {colour} {product} made of {material}.",
            "One last look at the plan: {name}, the {product} of {material} in {colour}.",
        ),
        (
            "It costs ${price}, below the ${limit} allowed, has {years} years of guarantee and is ${club} in the club.",
            "The club pays ${club}, others ${price}, nobody ${limit}, and all get {years} years of guarantee.",
            "With {years} years of guarantee it is sold for ${price}, under ${limit}, or ${club} at first.",
            "We ask ${price} where ${limit} was the bound, early buyers pay ${club}, and repair is free for {years} years.",
            "From ${limit} as the limit we came to ${price} and ${club} for members, with {years} years of guarantee.",
        ),
        (
            "We show it to {audience} at {place} on {day}, {date}, at {hour}.",
            "On {day}, {date}, at {hour} {audience} can see it at {place}.",
            "The {audience} are invited to {place}, at {hour} on {day}, {date}.",
            "At {place} we wait for {audience} on {day}, {date}, from {hour} on.",
            "It meets its {audience} at {hour}, on {day}, {date}, in {place}.",
        ),
    ),
    "Thanks": (
        (
            "Dear {audience}, thank you for coming to {place} on {day}.",
            "What a {day} that was at {place}, and all thanks to you, dear {audience}.",
            "We thank all {audience} who found their way to {place} last {day}.",
            "Many thanks to the {audience} who filled {place} on {day} from wall to wall.",
            "Last {day} {place} was full of {audience}, and we are still [happy|smiling].",
        ),
        (
            "You were the first to hold {name} and to [praise|touch] the {colour} {material}.",
            "We hope that {name} in {colour} {material} gives you joy for a long time.",
            "So many kind words about {name}, its {material} and its {colour}: we are proud.",
            "Pictures of {name} in {material} and {colour} are on our page now.",
            "The {colour} of {name} shone, and the {material} felt as good as we had hoped.",
        ),
        (
            "If you missed it, the {product} is still ${club} for you in {town} this week.",
            "The price of ${club} for the {product} is valid in {town} until the end of the month.",
            "Tell a friend in {town}: the {product} can be had for ${club} a little longer.",
            "Show this letter in {town} and the {product} is yours for ${club}.",
            "Until the stock in {town} is gone, you pay ${club} for the {product}.",
        ),
    ),
}
"""Heading to slots, in no particular order."""

BRIEF_QUESTIONS: tuple[str, ...] = (
    "Write a launch brief for a new {product} from {town} for {audience}, price under ${limit}, delivery ${fee}. Include: {wanted}.",
    "We make a new {product} for {audience} in {town}. It must cost less than ${limit}, and delivery is ${fee}. Please write the brief with these sections: {wanted}.",
    "Please prepare the launch of our {product} for {audience}. We work in {town}, the limit is ${limit} and delivery costs ${fee}. I need {wanted}.",
    "I need a brief: new {product}, made in {town}, below ${limit}, ${fee} for delivery, meant for {audience}. It should have {wanted}.",
    "Our workshop in {town} starts to sell a {product} for {audience} at less than ${limit} plus ${fee} for delivery. Write the launch text with {wanted}.",
    "Can you write the brief for a {product}? Buyers: {audience}. Town: {town}. Limit: ${limit}. Delivery: ${fee}. Sections: {wanted}.",
    "For {audience} we built a {product} here in {town}. Write {wanted} for it. The price has to stay under ${limit}, delivery is ${fee}.",
    "Draft a brief with {wanted}. It is about a new {product} for {audience}, from {town}, with delivery for ${fee} and a price below ${limit}.",
)
"""Wordings of a question that decomposes."""

PLAIN_QUESTIONS: tuple[tuple[tuple[str, ...], tuple[Slot, ...]], ...] = (
    (
        (
            "What does a {product} cost with delivery, if it is ${price} and delivery is ${fee}?",
            "A {product} is ${price} and delivery is ${fee}. How much is that together?",
            "How much do I pay for a {product} of ${price} when delivery adds ${fee}?",
        ),
        (
            (
                "Together the {product} costs ${total}.",
                "You pay ${total} for the {product}.",
                "The whole bill for the {product} is ${total}.",
            ),
            (
                "That is ${price} for the goods and ${fee} for the delivery.",
                "It is the price of ${price} with ${fee} for delivery added.",
            ),
        ),
    ),
    (
        (
            "Give one reason why {audience} would want a {product}.",
            "Why would {audience} buy a {product}?",
            "In one or two sentences: what is a {product} good for, if you ask {audience}?",
        ),
        (
            (
                "A good {product} saves {audience} time every single day.",
                "With a {product} of their own {audience} depend on nobody.",
                "For {audience} a {product} is above all a small piece of comfort.",
            ),
            (
                "It pays for itself within a year.",
                "And it makes a nice present, too.",
                "Those who have one do not want to give it back.",
            ),
        ),
    ),
    (
        (
            "Who makes the {product} in {town}?",
            "Say in one sentence who builds the {product} from {town}.",
            "Is the {product} really made in {town}?",
        ),
        (
            (
                "The {product} is made by a small workshop in {town}.",
                "It is a family business in {town} that builds the {product}.",
                "Every {product} is put together by hand in {town}.",
            ),
            (
                "Ten people work there, and visitors are welcome.",
                "They have done so for three generations.",
                "You can watch them through the large window.",
            ),
        ),
    ),
    (
        (
            "Is {town} a good place to sell a {product} to {audience}?",
            "Should we open a {product} shop for {audience} in {town}?",
            "Do {audience} in {town} need another {product}?",
        ),
        (
            (
                "Yes, there are many {audience} in {town}, and few of them own a {product}.",
                "Yes, the {audience} of {town} have waited for a good {product}.",
            ),
            (
                "Start small and listen to the first buyers.",
                "A stall on the market would be a good beginning.",
            ),
        ),
    ),
    (
        (
            "A {product} is ${price} and one delivery is ${fee}. What do three of them cost?",
            "What do I pay for three times the {product} at ${price} with one delivery of ${fee}?",
            "How much is a set of three, if one {product} is ${price} and the parcel is ${fee}?",
        ),
        (
            (
                "Three of them at ${price} make ${three}.",
                "Three times ${price} for the goods is ${three}.",
            ),
            (
                "With the delivery of ${fee} it is ${bundle} for everything.",
                "Add ${fee} for the parcel and you reach ${bundle}.",
            ),
        ),
    ),
    (
        (
            "A {product} of ${price} is ${cut} cheaper today. What do I pay?",
            "What is left of ${price} for a {product} if the shop takes ${cut} off?",
            "With ${cut} off, how much is a {product} of ${price}?",
        ),
        (
            (
                "Instead of ${price} you pay only ${club}.",
                "That brings it down from ${price} to ${club}.",
            ),
            (
                "You save ${cut} on the {product}.",
                "So the {product} is ${cut} cheaper than usual.",
            ),
        ),
    ),
)
"""Wordings of a question that is answered in one short paragraph, and the slots of its answer."""

SCOPES: Mapping[str, str] = {
    "Name": "name and look",
    "Price": "price and guarantee",
    "Launch": "place and time",
    "Slogan": "two words",
    "Design": "the shape",
    "Care": "how to clean it",
    "Reminder": "for the team",
    "Delivery": "the full bill",
    "Offer": "club price",
    "Bundle": "bill for three",
    "Poster": "what it says",
    "Invitation": "for the guests",
    "Summary": "all facts",
    "Thanks": "after the launch",
}
"""A few words for the skeleton: what a section covers."""

VALUES: Mapping[str, tuple[str, ...]] = {
    "product": tuple(
        "lamp bike kettle chair backpack radio tent clock desk scooter camera blanket mirror stove"
        " guitar wallet pillow sofa teapot drone fan heater helmet raincoat".split()
    ),
    "town": tuple(
        "Arden Brookfield Calder Denholm Elmstead Fairford Glenmore Hartwell Kingsley Langdon Marlow"
        " Norwood Oakham Preston Redhill Stanton Thornbury Upton Wexford Yardley Burnham Colby Dorset"
        " Fenwick".split()
    ),
    "audience": tuple(
        "students families commuters gardeners nurses teachers runners bakers travellers artists farmers"
        " drivers sailors cyclists dancers pilots singers cooks hikers writers".split()
    ),
    "limit": ("40", "50", "60", "70", "80", "90"),
    "fee": tuple("23456789"),
    "colour": tuple(
        "red blue green yellow white black silver golden orange purple pink grey brown copper ivory teal"
        " navy crimson amber olive".split()
    ),
    "material": tuple(
        "oak steel bamboo leather glass cotton linen wool aluminium cork walnut ceramic felt pine rattan"
        " brass".split()
    ),
    "years": ("two", "three", "four", "five", "six", "seven", "eight"),
    "days": ("two", "three", "four", "five", "six"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "hour": tuple("9 am,10 am,11 am,noon,2 pm,3 pm,4 pm,5 pm,6 pm,7 pm".split(",")),
    "adj": tuple(
        "light strong simple warm clever honest gentle quick brave fresh modern quiet bright solid"
        " friendly smart calm bold handy cheerful sturdy elegant playful steady".split()
    ),
    "cut": tuple("3456789"),
}
"""What a fact may be, where it is one of a list."""

NAME_PARTS: tuple[tuple[str, ...], ...] = (
    tuple(
        "Lucky Merry Nimble Noble Happy Velvet Amazing Hidden Rapid Cosy Curious Mighty Sunny Rolling"
        " Dancing Flying Humble Mellow Royal Gallant Jolly Tender Witty Eager Loyal Proud Sleepy Dapper"
        " Frosty Breezy Cloudy Misty Rocky Sandy Windy Snowy Lunar Solar Polar Ancient Secret Urban Rural"
        " Magic Mystic Cosmic Electric Atomic Northern Southern Eastern Western Little Grand Prime Double"
        " Triple Early Evening Summer Autumn Winter Vivid Wild".split()
    ),
    tuple(
        "Falcon Otter Badger Heron Robin Sparrow Finch Swallow Owl Raven Fox Hare Lynx Panda Tiger Lion"
        " Bear Wolf Pony Beaver Dolphin Whale Salmon Turtle Gecko Cricket Beetle Firefly Comet Planet"
        " Rocket Meteor Galaxy Eclipse Thunder Rainbow Breeze Wave Pebble Canyon Glacier Island Lagoon"
        " Harvest Acorn Clover Daisy Tulip Lotus Fern Thistle Juniper Saffron Pepper Ginger Biscuit Muffin"
        " Waltz Tango Sonata".split()
    ),
)
PLACE_PARTS: tuple[tuple[str, ...], ...] = (
    tuple(
        "Maple Harbour Castle River Garden Station Bridge Orchard Market Mill Abbey Meadow Tower Willow"
        " Lantern Canal".split()
    ),
    tuple(
        "Hall Park Square House Theatre Library Gallery Pavilion Yard Arcade Museum Terrace".split()
    ),
)
MONTHS: tuple[str, ...] = tuple(
    "January February March April May June July August September October November December".split()
)
