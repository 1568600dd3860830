/*
 * One book frame of the usual shape: raw bytes in, packed numbers out.
 *
 * The quick way for what nearly every frame is. It decides nothing: what it does not take, down to the last byte, it
 * leaves to Python (`normalize.py`) by returning None. What it takes:
 *
 *   {"channel":"NAME","data":"{MEMBERS}"}  without a blank; `data` is JSON in a string, its quotes written \", with no
 *                                          other escape, printable ASCII throughout
 *   MEMBERS    of a book, in any order, none twice, bids and asks among them
 *   a number   as JSON has integers, bare or in quotes, within +-(2^53 - 1), not -0
 *   a level    price, size > 0 and sources, in any order; sources are one equal to the size, or several, each > 0
 *   a side     in order, best first; of any length
 *   an oracle  numbers, and true or false
 *
 * A cursor goes over the payload once and is compared with its end before each step. Nothing recurses, nothing is kept
 * between calls. The one allocation is sized by the payload: a level cannot be shorter than LEVEL_BYTES.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ABSENT INT64_MIN            /* NULL in payloads.py */
#define JS_EXACT (INT64_C(1) << 53) /* likewise */
#define MOST_DIGITS 16              /* of 2^53 */
#define QUOTE "\\\"" /* of the JSON inside the string */
#define COUNT(table) ((int)(sizeof(table) / sizeof((table)[0])))
#define NEED(condition) \
    if (!(condition)) return false

typedef struct {
    const unsigned char *at, *end;
} Cursor;

typedef struct {
    const char *at; /* NULL: it was not there */
    Py_ssize_t length;
} Text;

typedef struct {
    int64_t *price, *size, *part;
    uint16_t *source;
    Py_ssize_t levels, parts, room;
} Side;

/* Names of members, each table in the order in which they mostly come. */
typedef struct {
    const char *text;
    size_t length;
} Name;
#define NAME(name) {QUOTE name QUOTE ":", sizeof(QUOTE name QUOTE ":") - 1}

enum {
    BIDS, ASKS, MARKET_NAME, MARKET_TYPE, MARKET_INDEX, TS, SLOT, MARK, BID, ASK, SPREAD_PCT, SPREAD_QUOTE,
    ORACLE_PRICE, ORACLE_DATA, MM_ORACLE_DATA, MARKET_SLOT,
};
static const Name BOOK[] = {
    NAME("bids"), NAME("asks"), NAME("marketName"), NAME("marketType"), NAME("marketIndex"), NAME("ts"), NAME("slot"),
    NAME("markPrice"), NAME("bestBidPrice"), NAME("bestAskPrice"), NAME("spreadPct"), NAME("spreadQuote"),
    NAME("oracle"), NAME("oracleData"), NAME("mmOracleData"), NAME("marketSlot"),
};
enum { SUFFICIENT = 3 };
static const Name ORACLE[] = {
    NAME("price"), NAME("slot"), NAME("confidence"), NAME("hasSufficientNumberOfDataPoints"), NAME("twap"),
    NAME("twapConfidence"), NAME("maxPrice"),
};
enum { SIZE, PRICE, SOURCES };
static const Name LEVEL[] = {NAME("size"), NAME("price"), NAME("sources")};
static const Name SOURCE[] = { /* the n-th is bit n of the column: Source in records.py */
    NAME("dlob"), NAME("vamm"), NAME("indicative"), NAME("phoenix"), NAME("openbook"), NAME("serum"), NAME("clob"),
    NAME("propamm"),
};

#define LEVEL_BYTES (sizeof("{" QUOTE "size" QUOTE ":1," QUOTE "price" QUOTE ":1," QUOTE "sources" QUOTE ":{}}") - 1)

/* Where the numbers stand in `Book.numbers`: BOOK_NUMBERS in payloads.py. */
enum { ORACLE_AT = 9, MM_ORACLE_AT = ORACLE_AT + COUNT(ORACLE), NUMBERS = MM_ORACLE_AT + COUNT(ORACLE) };
static const int NUMBER_AT[COUNT(BOOK)] = {
    [TS] = 0, [SLOT] = 1, [MARKET_SLOT] = 2, [MARK] = 3, [BID] = 4, [ASK] = 5, [SPREAD_PCT] = 6, [SPREAD_QUOTE] = 7,
    [ORACLE_PRICE] = 8,
};

typedef struct {
    Text channel, market_name, market_type;
    int64_t market_index, numbers[NUMBERS];
    Side bid, ask;
} Book;

static inline bool literal(Cursor *c, const char *text, size_t length)
{
    NEED((size_t)(c->end - c->at) >= length && memcmp(c->at, text, length) == 0);
    c->at += length;
    return true;
}
#define LITERAL(c, text) literal(c, text, sizeof(text) - 1)

/* The index of the member that is named here; -1 if it is unknown or was `seen`. */
static inline int member(Cursor *c, const Name *names, int count, int last, unsigned *seen)
{
    for (int tried = 0, at = last; tried < count; tried++) {
        at = at + 1 < count ? at + 1 : 0;
        if (literal(c, names[at].text, names[at].length)) {
            unsigned bit = 1U << at;
            bool again = (*seen & bit) != 0;
            *seen |= bit;
            return again ? -1 : at;
        }
    }
    return -1;
}

/* Printable ASCII up to `quote`. */
static inline bool text(Cursor *c, Text *found, const char *quote, size_t length)
{
    const unsigned char *first = c->at;
    while (c->at < c->end && *c->at >= ' ' && *c->at <= '~' && *c->at != '"' && *c->at != '\\') c->at++;
    *found = (Text){(const char *)first, c->at - first};
    return literal(c, quote, length);
}

static inline bool quoted(Cursor *c, Text *found)
{
    return LITERAL(c, QUOTE) && text(c, found, QUOTE, sizeof(QUOTE) - 1);
}

static inline bool number(Cursor *c, int64_t *value)
{
    bool in_quotes = LITERAL(c, QUOTE), negative = LITERAL(c, "-");
    const unsigned char *first = c->at;
    int64_t sum = 0;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
        NEED(c->at - first < MOST_DIGITS);
        sum = sum * 10 + (*c->at++ - '0');
    }
    ptrdiff_t digits = c->at - first;
    NEED(digits > 0 && sum < JS_EXACT && (*first != '0' || (digits == 1 && !negative)));
    *value = negative ? -sum : sum;
    return !in_quotes || LITERAL(c, QUOTE);
}

static inline bool sources(Cursor *c, int64_t *parts, unsigned *named)
{
    int at = -1;
    NEED(LITERAL(c, "{"));
    do {
        at = member(c, SOURCE, COUNT(SOURCE), at, named);
        NEED(at >= 0 && number(c, &parts[at]) && parts[at] > 0);
    } while (LITERAL(c, ","));
    return LITERAL(c, "}");
}

static inline bool level(Cursor *c, Side *side, bool descending)
{
    int64_t price = 0, size = 0, parts[COUNT(SOURCE)] = {0};
    unsigned seen = 0, named = 0;
    int at = -1;
    NEED(side->levels < side->room && LITERAL(c, "{"));
    do {
        at = member(c, LEVEL, COUNT(LEVEL), at, &seen);
        NEED(at >= 0);
        NEED(at == SIZE ? number(c, &size) : at == PRICE ? number(c, &price) : sources(c, parts, &named));
    } while (LITERAL(c, ","));
    NEED(LITERAL(c, "}") && seen == (1U << SIZE | 1U << PRICE | 1U << SOURCES) && size > 0);
    if (side->levels > 0) {
        int64_t better = side->price[side->levels - 1];
        NEED(descending ? price <= better : price >= better);
    }
    bool several = (named & (named - 1)) != 0;
    for (int source = 0; source < COUNT(SOURCE); source++) {
        if (!(named & 1U << source)) continue;
        NEED(several || parts[source] == size);
        if (several) side->part[side->parts++] = parts[source];
    }
    side->price[side->levels] = price;
    side->size[side->levels] = size;
    side->source[side->levels++] = (uint16_t)named;
    return true;
}

static bool levels(Cursor *c, Side *side, bool descending)
{
    NEED(LITERAL(c, "["));
    if (LITERAL(c, "]")) return true;
    do {
        NEED(level(c, side, descending));
    } while (LITERAL(c, ","));
    return LITERAL(c, "]");
}

static bool oracle(Cursor *c, int64_t *numbers)
{
    unsigned seen = 0;
    int at = -1;
    NEED(LITERAL(c, "{"));
    do {
        at = member(c, ORACLE, COUNT(ORACLE), at, &seen);
        NEED(at >= 0);
        if (at == SUFFICIENT) {
            numbers[at] = LITERAL(c, "true");
            NEED(numbers[at] || LITERAL(c, "false"));
        } else {
            NEED(number(c, &numbers[at]));
        }
    } while (LITERAL(c, ","));
    return LITERAL(c, "}");
}

static bool value(Cursor *c, Book *book, int at)
{
    switch (at) {
    case BIDS: return levels(c, &book->bid, true);
    case ASKS: return levels(c, &book->ask, false);
    case MARKET_NAME: return quoted(c, &book->market_name);
    case MARKET_TYPE: return quoted(c, &book->market_type);
    case MARKET_INDEX: return number(c, &book->market_index);
    case ORACLE_DATA: return oracle(c, &book->numbers[ORACLE_AT]);
    case MM_ORACLE_DATA: return oracle(c, &book->numbers[MM_ORACLE_AT]);
    default: return number(c, &book->numbers[NUMBER_AT[at]]);
    }
}

static bool frame(Cursor *c, Book *book)
{
    unsigned seen = 0, needed = 1U << BIDS | 1U << ASKS;
    int at = -1;
    NEED(LITERAL(c, "{\"channel\":\"") && text(c, &book->channel, "\"", 1) && LITERAL(c, ",\"data\":\"{"));
    do {
        at = member(c, BOOK, COUNT(BOOK), at, &seen);
        NEED(at >= 0 && value(c, book, at));
    } while (LITERAL(c, ","));
    return LITERAL(c, "}\"}") && c->at == c->end && (seen & needed) == needed;
}

#define BYTES(column, count) (const char *)(column), (count) * (Py_ssize_t)sizeof(*(column))

static PyObject *scan(PyObject *Py_UNUSED(module), PyObject *payload)
{
    char *bytes;
    Py_ssize_t length;
    if (PyBytes_AsStringAndSize(payload, &bytes, &length) < 0) return NULL;
    /* Per level of either side: price, size and parts; then the sources, a quarter of a word each. */
    size_t room = (size_t)length / LEVEL_BYTES + 1;
    size_t words = room * (2 + COUNT(SOURCE));
    int64_t *scratch = PyMem_Malloc(2 * (words * sizeof(int64_t) + room * sizeof(uint16_t)));
    if (scratch == NULL) return PyErr_NoMemory();
    Cursor cursor = {(const unsigned char *)bytes, (const unsigned char *)bytes + length};
    Book book = {.market_index = ABSENT};
    for (int at = 0; at < NUMBERS; at++) {
        book.numbers[at] = ABSENT;
    }
    uint16_t *source = (uint16_t *)(scratch + 2 * words);
    Side *sides[] = {&book.bid, &book.ask};
    for (size_t at = 0; at < 2; at++) {
        int64_t *first = scratch + at * words;
        *sides[at] = (Side){first, first + room, first + 2 * room, source + at * room, 0, 0, (Py_ssize_t)room};
    }
    const Side *bid = &book.bid, *ask = &book.ask;
    PyObject *found = Py_None;
    if (frame(&cursor, &book)) {
        found = Py_BuildValue("s#z#z#Ly#(y#y#y#y#)(y#y#y#y#)", book.channel.at, book.channel.length, book.market_name.at,
                              book.market_name.length, book.market_type.at, book.market_type.length,
                              (long long)book.market_index, BYTES(book.numbers, NUMBERS),
                              BYTES(bid->price, bid->levels), BYTES(bid->size, bid->levels),
                              BYTES(bid->source, bid->levels), BYTES(bid->part, bid->parts),
                              BYTES(ask->price, ask->levels), BYTES(ask->size, ask->levels),
                              BYTES(ask->source, ask->levels), BYTES(ask->part, ask->parts));
    } else {
        Py_INCREF(found);
    }
    PyMem_Free(scratch);
    return found;
}

static PyMethodDef METHODS[] = {
    {"scan", scan, METH_O, "Read a book frame of the usual shape; None for anything else."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_scan",
    .m_doc = "The native way through book frames.",
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__scan(void) { return PyModuleDef_Init(&MODULE); }
