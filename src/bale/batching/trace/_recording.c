/* Stream, Value, Recorder, Gatherer, Reader, Method and Switch in C: what recording.py does in Python, several times as
fast.

A trace makes one call of a Recorder, and one or two Values, for every node of every sample, so these are the only lines
of bale that a user's forward waits for. Nothing here is compiled against torch: a Recorder compares objects by
identity, looks them up in dictionaries that Python fills, and appends whole numbers; a Reader asks a tensor as Python
would. See recording.py for what each question means, and stream.py for what is written.
*/

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

/* ---- Stream: whole numbers, one after another ---- */

typedef struct {
    PyObject_HEAD
    int64_t *numbers;
    Py_ssize_t size, room;
} Stream;

static int stream_reserve(Stream *self, Py_ssize_t more) {
    if (self->size + more <= self->room) return 0;
    Py_ssize_t room = 2 * self->room + more + 1024;
    int64_t *numbers = PyMem_Realloc(self->numbers, room * sizeof(int64_t));
    if (!numbers) {
        PyErr_NoMemory();
        return -1;
    }
    self->numbers = numbers;
    self->room = room;
    return 0;
}

static PyObject *stream_extend(Stream *self, PyObject *numbers) {
    PyObject *items = PySequence_Fast(numbers, "Stream.extend() takes a sequence of whole numbers");
    if (!items) return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
    if (stream_reserve(self, count) < 0) goto failed;
    for (Py_ssize_t k = 0; k < count; k++) {
        PyObject *item = PySequence_Fast_GET_ITEM(items, k);
        if (!PyLong_Check(item)) { /* its __index__ could change the sequence, or this stream */
            PyErr_Format(PyExc_TypeError, "a Stream holds whole numbers, not %.100s", Py_TYPE(item)->tp_name);
            goto failed;
        }
        int64_t number = PyLong_AsLongLong(item);
        if (number == -1 && PyErr_Occurred()) goto failed;
        self->numbers[self->size + k] = number;
    }
    self->size += count; /* all or nothing */
    Py_DECREF(items);
    Py_RETURN_NONE;
failed:
    Py_DECREF(items);
    return NULL;
}

static PyObject *stream_tobytes(Stream *self, PyObject *nothing) {
    return PyBytes_FromStringAndSize((char *)self->numbers, self->size * sizeof(int64_t));
}

static Py_ssize_t stream_length(Stream *self) { return self->size; }

static void stream_dealloc(Stream *self) {
    PyMem_Free(self->numbers);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef stream_methods[] = {
    {"extend", (PyCFunction)stream_extend, METH_O, "Append a sequence of whole numbers."},
    {"tobytes", (PyCFunction)stream_tobytes, METH_NOARGS, "All numbers, as int64 in this machine's order."},
    {NULL},
};

static PySequenceMethods stream_as_sequence = {.sq_length = (lenfunc)stream_length};

static PyTypeObject StreamType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bale.batching.trace._recording.Stream",
    .tp_doc = "Whole numbers, one after another.",
    .tp_basicsize = sizeof(Stream),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)stream_dealloc,
    .tp_methods = stream_methods,
    .tp_as_sequence = &stream_as_sequence,
};

/* ---- Value: what a Ref holds ---- */

typedef struct {
    PyObject_HEAD
    PyObject *home, *memory, *weakrefs;
    int64_t part;
} Value;

static int value_traverse(Value *self, visitproc visit, void *arg) {
    Py_VISIT(self->home);
    Py_VISIT(self->memory);
    return 0;
}

static int value_clear(Value *self) {
    Py_CLEAR(self->home);
    Py_CLEAR(self->memory);
    return 0;
}

static void value_dealloc(Value *self) {
    PyObject_GC_UnTrack(self);
    if (self->weakrefs) PyObject_ClearWeakRefs((PyObject *)self);
    value_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef value_members[] = {
    {"home", T_OBJECT_EX, offsetof(Value, home), 0, "What it has in common with all values of its shape."},
    {"memory", T_OBJECT, offsetof(Value, memory), 0, "None while no other shares it."},
    {"part", T_LONGLONG, offsetof(Value, part), 0, "Its code in the stream."},
    {NULL},
};

static PyTypeObject ValueType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bale.batching.trace._recording.Value",
    .tp_doc = "What a Ref holds: home, part, memory.",
    .tp_basicsize = sizeof(Value),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_dealloc = (destructor)value_dealloc,
    .tp_traverse = (traverseproc)value_traverse,
    .tp_clear = (inquiry)value_clear,
    .tp_weaklistoffset = offsetof(Value, weakrefs),
    .tp_members = value_members,
};

/* The value, and count - 1 more that follow it at a distance in the stream's codes. */
static PyObject *rows_from(PyObject *module, PyObject *const *args, Py_ssize_t given) {
    if (given != 3 || !PyObject_TypeCheck(args[0], &ValueType)) {
        PyErr_SetString(PyExc_TypeError, "rows_from() takes a value, a count and a step");
        return NULL;
    }
    Value *first = (Value *)args[0];
    Py_ssize_t count = PyLong_AsSsize_t(args[1]);
    int64_t step = PyLong_AsLongLong(args[2]);
    if ((count == -1 || step == -1) && PyErr_Occurred()) return NULL;
    if (count < 1) {
        PyErr_SetString(PyExc_ValueError, "rows_from() makes a list of at least the value that it is given");
        return NULL;
    }
    PyObject *rows = PyList_New(count);
    if (!rows) return NULL;
    PyList_SET_ITEM(rows, 0, Py_NewRef(first));
    for (Py_ssize_t k = 1; k < count; k++) {
        Value *row = (Value *)Py_TYPE(first)->tp_alloc(Py_TYPE(first), 0);
        if (!row) {
            Py_DECREF(rows);
            return NULL;
        }
        row->home = Py_XNewRef(first->home);
        row->memory = Py_XNewRef(first->memory);
        row->part = first->part + k * step;
        PyList_SET_ITEM(rows, k, (PyObject *)row);
    }
    return rows;
}

/* ---- Recorder ---- */

enum { HOME, ROWS, SAME, CONSTANT, NUMBER, PLAIN, ITEMS, KINDS };
static const char *const KIND_NAMES[KINDS] = {"home", "rows", "same", "constant", "number", "plain", "items"};
static const int KIND_THINGS[KINDS] = {1, 1, 1, 3, 3, 2, 1}; /* how many objects come with each */

#define MAX_LEAVES 16 /* as in recorder.py, which asks of no more */

typedef struct {
    int kind;
    Py_ssize_t count;    /* of the questions that follow for the items of a tuple or list */
    PyObject *things[3]; /* borrowed: the questions that Python gave hold them */
} Question;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyTypeObject *ref;
    Stream *stream;
    int64_t type;
    int fixed, grad;
    PyObject *positional, *names, *named;       /* tuples: questions, keywords, and their questions */
    PyObject *homes;                            /* tuple: the Home of each output; a Lengths where it is ragged */
    PyObject *ragged;                           /* tuple of bools */
    PyObject *wrap;                             /* None: the only output itself; tuple; else called with a list */
    PyObject *views;                            /* tuple: of each output the part whose memory it shares, or None */
    PyObject *memory;                           /* what makes such a memory */
    PyObject *otherwise, *still;
    PyObject *grad_enabled, *autocast;
    Question *questions;
    Py_ssize_t question_count;
} Recorder;

/* What one call has answered so far. */
typedef struct {
    int64_t parts[MAX_LEAVES], entries[MAX_LEAVES], length;
    PyObject *values[MAX_LEAVES], *constants[MAX_LEAVES]; /* held: lists among the arguments can change meanwhile */
    const Question *constant_questions[MAX_LEAVES];
    int part_count, constant_count;
} Call;

static PyObject *str_spec, *str_length;

/* 1: the length agrees with those before; 0: it does not; -1: error. */
static int same_length(Call *call, PyObject *given) {
    int64_t length = PyLong_AsLongLong(given);
    if (length == -1 && PyErr_Occurred()) return -1;
    if (call->length >= 0) return call->length == length;
    call->length = length;
    return length > 0;
}

static int same_rows(Call *call, PyObject *home, PyObject *wanted) {
    PyObject *spec = PyObject_GetAttr(home, str_spec);
    if (!spec) return -1;
    Py_DECREF(spec); /* its Home holds it */
    if (spec != wanted) return 0;
    PyObject *length = PyObject_GetAttr(home, str_length);
    if (!length) return -1;
    int same = length == Py_None ? 0 : same_length(call, length); /* None: nothing ragged */
    Py_DECREF(length);
    return same;
}

/* 1: `given` is as the question at *at asks; 0: it is not; -1: error. Moves *at behind the question. */
static int ask(const Recorder *self, const Question **at, PyObject *given, Call *call) {
    const Question *question = (*at)++;
    PyObject *const *things = question->things;
    PyObject *held; /* what the Python that a question runs could take from where it is */
    int found;
    switch (question->kind) {
    case HOME:
    case ROWS:
        if (Py_TYPE(given) != self->ref) return 0;
        call->values[call->part_count] = Py_NewRef(given);
        call->parts[call->part_count++] = ((Value *)given)->part;
        if (question->kind == HOME) return ((Value *)given)->home == things[0];
        if (!((Value *)given)->home) return 0;
        held = Py_NewRef(((Value *)given)->home);
        found = same_rows(call, held, things[0]);
        Py_DECREF(held);
        return found;
    case SAME:
        return given == things[0];
    case NUMBER:
        if ((PyObject *)Py_TYPE(given) != things[2]) return 0;
        /* fall through */
    case CONSTANT: /* looked up last, for that notes what was not seen before */
        call->constants[call->constant_count] = Py_NewRef(given);
        call->constant_questions[call->constant_count++] = question;
        return 1;
    case PLAIN:
        if ((PyObject *)Py_TYPE(given) != things[0]) return 0;
        return given == things[1] ? 1 : PyObject_RichCompareBool(given, things[1], Py_EQ);
    default: /* ITEMS */
        if ((PyObject *)Py_TYPE(given) != things[0]) return 0;
        if (PySequence_Fast_GET_SIZE(given) != question->count) return 0;
        for (Py_ssize_t k = 0; k < question->count; k++) {
            if (k >= PySequence_Fast_GET_SIZE(given)) return 0; /* a list, shorter by now */
            held = Py_NewRef(PySequence_Fast_GET_ITEM(given, k));
            found = ask(self, at, held, call);
            Py_DECREF(held);
            if (found <= 0) return found;
        }
        return 1;
    }
}

/* The entry of the k-th constant. */
static int look_up(Call *call, int k) {
    PyObject *const *things = call->constant_questions[k]->things;
    PyObject *given = call->constants[k], *key;
    int is_tensor = call->constant_questions[k]->kind == CONSTANT;
    key = is_tensor ? PyLong_FromVoidPtr(given) : Py_NewRef(given);
    if (!key) return -1;
    PyObject *entry = PyDict_GetItemWithError(things[0], key);
    Py_DECREF(key);
    if (entry)
        Py_INCREF(entry);
    else {
        if (PyErr_Occurred()) return -1;
        entry = PyObject_CallOneArg(things[1], given);
        if (!entry) return -1;
        if (entry == Py_None) {
            Py_DECREF(entry);
            return 0;
        }
    }
    call->entries[k] = PyLong_AsLongLong(entry);
    int found = 1;
    if (call->entries[k] == -1 && PyErr_Occurred())
        found = -1;
    else if (is_tensor && things[2] != Py_None) { /* ragged: its first axis is the length */
        PyObject *length = PyDict_GetItemWithError(things[2], entry);
        found = length ? same_length(call, length) : PyErr_Occurred() ? -1 : 0;
    }
    Py_DECREF(entry);
    return found;
}

static int is_true(PyObject *function) {
    PyObject *answer = PyObject_CallNoArgs(function);
    if (!answer) return -1;
    int truth = answer == Py_True ? 1 : answer == Py_False ? 0 : PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return truth;
}

/* 1: this is a call that the recorder was made for, and `call` holds its answers; 0: it is not; -1: error. */
static int understand(const Recorder *self, PyObject *const *args, Py_ssize_t count, PyObject *names, Call *call) {
    Py_ssize_t named = names ? PyTuple_GET_SIZE(names) : 0;
    if (count != PyTuple_GET_SIZE(self->positional) || named != PyTuple_GET_SIZE(self->names)) return 0;
    int found = is_true(self->grad_enabled);
    if (found < 0) return -1;
    if (found != self->grad) return 0;
    found = is_true(self->autocast);
    if (found) return found < 0 ? -1 : 0;
    const Question *at = self->questions;
    for (Py_ssize_t k = 0; k < count; k++) {
        found = ask(self, &at, args[k], call);
        if (found <= 0) return found;
    }
    for (Py_ssize_t k = 0; k < named; k++) {
        PyObject *wanted = PyTuple_GET_ITEM(self->names, k);
        Py_ssize_t place = 0;
        for (; place < named; place++) {
            PyObject *name = PyTuple_GET_ITEM(names, place);
            found = name == wanted ? 1 : PyObject_RichCompareBool(name, wanted, Py_EQ);
            if (found < 0) return -1;
            if (found) break;
        }
        if (place == named) return 0;
        found = ask(self, &at, args[count + place], call);
        if (found <= 0) return found;
    }
    for (int k = 0; k < call->constant_count; k++) {
        found = look_up(call, k);
        if (found <= 0) return found;
    }
    return self->still == Py_None ? 1 : is_true(self->still);
}

/* Append the node; returns the code of its first output, or -1. */
static int64_t append_node(const Recorder *self, const Call *call) {
    Stream *stream = self->stream;
    Py_ssize_t outputs = PyTuple_GET_SIZE(self->homes);
    if (stream_reserve(stream, 2 + 2 * MAX_LEAVES + MAX_LEAVES + outputs) < 0) return -1;
    int64_t code = stream->size, *start = stream->numbers + code, *at = start;
    *at++ = self->type;
    if (!self->fixed) *at++ = call->length;
    for (int k = 0; k < call->part_count; k++) {
        if (!self->fixed) *at++ = 1;
        *at++ = call->parts[k];
    }
    for (int k = 0; k < call->constant_count; k++) *at++ = call->entries[k];
    while (at < start + outputs) *at++ = 0;
    stream->size += at - start;
    return code;
}

/* The memory that the k-th output shares with a part, a new reference; NULL without an error where it shares none. */
static PyObject *shared_memory(const Recorder *self, Py_ssize_t k, const Call *call) {
    PyObject *part = PyTuple_GET_ITEM(self->views, k);
    if (part == Py_None) return NULL;
    Value *value = (Value *)call->values[PyLong_AsSsize_t(part)];
    if (!value->memory || value->memory == Py_None) {
        PyObject *memory = PyObject_CallNoArgs(self->memory);
        if (!memory) return NULL;
        Py_XSETREF(value->memory, memory);
    }
    return Py_NewRef(value->memory);
}

static PyObject *make_value(const Recorder *self, Py_ssize_t k, int64_t code, const Call *call) {
    PyObject *home = PyTuple_GET_ITEM(self->homes, k);
    if (PyTuple_GET_ITEM(self->ragged, k) == Py_True) {
        PyObject *length = PyLong_FromLongLong(call->length);
        if (!length) return NULL;
        home = PyObject_GetItem(home, length);
        Py_DECREF(length);
        if (!home) return NULL;
    } else
        Py_INCREF(home);
    Value *value = (Value *)self->ref->tp_alloc(self->ref, 0);
    if (!value) {
        Py_DECREF(home);
        return NULL;
    }
    value->home = home;
    value->part = code + k;
    value->memory = shared_memory(self, k, call);
    if (!value->memory && PyErr_Occurred()) Py_CLEAR(value);
    return (PyObject *)value;
}

static PyObject *make_outputs(const Recorder *self, int64_t code, const Call *call) {
    if (self->wrap == Py_None) return make_value(self, 0, code, call);
    Py_ssize_t count = PyTuple_GET_SIZE(self->homes);
    int as_tuple = self->wrap == (PyObject *)&PyTuple_Type;
    PyObject *outputs = as_tuple ? PyTuple_New(count) : PyList_New(count);
    if (!outputs) return NULL;
    for (Py_ssize_t k = 0; k < count; k++) {
        PyObject *value = make_value(self, k, code, call);
        if (!value) {
            Py_DECREF(outputs);
            return NULL;
        }
        if (as_tuple)
            PyTuple_SET_ITEM(outputs, k, value);
        else
            PyList_SET_ITEM(outputs, k, value);
    }
    if (as_tuple) return outputs;
    PyObject *tree = PyObject_CallOneArg(self->wrap, outputs);
    Py_DECREF(outputs);
    return tree;
}

static PyObject *recorder_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names) {
    Recorder *self = (Recorder *)callable;
    if (!self->otherwise) { /* the garbage collector has been here */
        PyErr_SetString(PyExc_RuntimeError, "a recorder of a trace that is gone was called");
        return NULL;
    }
    Call call;
    call.length = -1;
    call.part_count = call.constant_count = 0;
    /* What Python is asked on the way may drop the last reference to the recorder: a module's attribute is written. */
    Py_INCREF(self);
    int found = understand(self, args, PyVectorcall_NARGS(flags), names, &call);
    PyObject *result = NULL;
    if (found == 0)
        result = PyObject_Vectorcall(self->otherwise, args, PyVectorcall_NARGS(flags), names);
    else if (found > 0) {
        int64_t code = append_node(self, &call);
        if (code >= 0) result = make_outputs(self, code, &call);
    }
    for (int k = 0; k < call.part_count; k++) Py_DECREF(call.values[k]);
    for (int k = 0; k < call.constant_count; k++) Py_DECREF(call.constants[k]);
    Py_DECREF(self);
    return result;
}

/* Questions, as Python gives them, to an array in the order in which they are asked. */

static Py_ssize_t count_questions(PyObject *asked) {
    Py_ssize_t total = 0;
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(asked); k++) {
        PyObject *one = PyTuple_GET_ITEM(asked, k);
        if (!PyTuple_Check(one) || PyTuple_GET_SIZE(one) < 2) {
            PyErr_SetString(PyExc_TypeError, "a question is a tuple of its kind and what it refers to");
            return -1;
        }
        total++;
        if (PyTuple_GET_SIZE(one) == 3 && PyUnicode_Check(PyTuple_GET_ITEM(one, 0)) &&
            !PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(one, 0), KIND_NAMES[ITEMS])) {
            if (!PyTuple_Check(PyTuple_GET_ITEM(one, 2))) {
                PyErr_SetString(PyExc_TypeError, "the questions of items are a tuple");
                return -1;
            }
            if (Py_EnterRecursiveCall(" in the questions of a recorder")) return -1;
            Py_ssize_t inside = count_questions(PyTuple_GET_ITEM(one, 2));
            Py_LeaveRecursiveCall();
            if (inside < 0) return -1;
            total += inside;
        }
    }
    return total;
}

static int read_questions(PyObject *asked, Question **at, int *leaves) {
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(asked); k++) {
        PyObject *one = PyTuple_GET_ITEM(asked, k), *name = PyTuple_GET_ITEM(one, 0);
        Question *question = (*at)++;
        for (question->kind = 0; question->kind < KINDS; question->kind++)
            if (PyUnicode_Check(name) && !PyUnicode_CompareWithASCIIString(name, KIND_NAMES[question->kind])) break;
        int kind = question->kind;
        if (kind == KINDS || PyTuple_GET_SIZE(one) != 1 + KIND_THINGS[kind] + (kind == ITEMS)) {
            PyErr_Format(PyExc_ValueError, "no such question: %R", one);
            return -1;
        }
        for (int thing = 0; thing < KIND_THINGS[question->kind]; thing++)
            question->things[thing] = PyTuple_GET_ITEM(one, thing + 1);
        int looks_up = question->kind == CONSTANT || question->kind == NUMBER;
        if (looks_up && !PyDict_Check(question->things[0])) {
            PyErr_SetString(PyExc_TypeError, "constants are looked up in a dictionary");
            return -1;
        }
        if (question->kind == CONSTANT && question->things[2] != Py_None && !PyDict_Check(question->things[2])) {
            PyErr_SetString(PyExc_TypeError, "lengths are looked up in a dictionary");
            return -1;
        }
        if (question->kind != ITEMS) {
            ++*leaves;
            continue;
        }
        if (question->things[0] != (PyObject *)&PyTuple_Type && question->things[0] != (PyObject *)&PyList_Type) {
            PyErr_SetString(PyExc_TypeError, "items are those of a tuple or a list");
            return -1;
        }
        question->count = PyTuple_GET_SIZE(PyTuple_GET_ITEM(one, 2));
        if (read_questions(PyTuple_GET_ITEM(one, 2), at, leaves) < 0) return -1;
    }
    return 0;
}

static int take_questions(Recorder *self) {
    Py_ssize_t positional = count_questions(self->positional);
    Py_ssize_t named = positional < 0 ? -1 : count_questions(self->named);
    if (named < 0) return -1;
    if (PyTuple_GET_SIZE(self->names) != PyTuple_GET_SIZE(self->named)) {
        PyErr_SetString(PyExc_ValueError, "every keyword has a question");
        return -1;
    }
    self->questions = PyMem_Calloc(positional + named + 1, sizeof(Question));
    if (!self->questions) {
        PyErr_NoMemory();
        return -1;
    }
    self->question_count = positional + named;
    Question *at = self->questions;
    int leaves = 0;
    if (read_questions(self->positional, &at, &leaves) < 0 || read_questions(self->named, &at, &leaves) < 0) return -1;
    if (leaves > MAX_LEAVES) {
        PyErr_Format(PyExc_ValueError, "a recorder asks of at most %d arguments", MAX_LEAVES);
        return -1;
    }
    return 0;
}

/* Views are of the values that the questions ask for. */
static int check_views(const Recorder *self) {
    Py_ssize_t values = 0;
    for (const Question *at = self->questions; at < self->questions + self->question_count; at++)
        values += at->kind == HOME || at->kind == ROWS;
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(self->views); k++) {
        PyObject *part = PyTuple_GET_ITEM(self->views, k);
        if (part == Py_None) continue;
        Py_ssize_t number = PyLong_Check(part) ? PyLong_AsSsize_t(part) : -1;
        if (number == -1 && PyErr_Occurred()) PyErr_Clear();
        if (number < 0 || number >= values) {
            PyErr_Format(PyExc_ValueError, "an output is a view of %R, and there are %zd values", part, values);
            return -1;
        }
    }
    return 0;
}

static PyObject *recorder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"ref", "stream", "type", "fixed", "grad", "positional", "names", "named",
                            "homes", "ragged", "wrap", "views", "memory", "otherwise", "still", "grad_enabled",
                            "autocast", NULL};
    PyObject *ref, *stream, *given[12];
    long long number;
    int fixed, grad;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "O!O!LppO!O!O!O!O!OO!OOOOO:Recorder", names, &PyType_Type, &ref, &StreamType, &stream,
            &number, &fixed, &grad, &PyTuple_Type, &given[0], &PyTuple_Type, &given[1], &PyTuple_Type, &given[2],
            &PyTuple_Type, &given[3], &PyTuple_Type, &given[4], &given[5], &PyTuple_Type, &given[6], &given[7],
            &given[8], &given[9], &given[10], &given[11]))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)ref, &ValueType)) {
        PyErr_SetString(PyExc_TypeError, "ref is not a Value");
        return NULL;
    }
    Py_ssize_t outputs = PyTuple_GET_SIZE(given[3]);
    if (PyTuple_GET_SIZE(given[4]) != outputs || PyTuple_GET_SIZE(given[6]) != outputs || !outputs) {
        PyErr_SetString(PyExc_ValueError, "every output has a home, is ragged or not, a view or not, and there is one");
        return NULL;
    }
    Recorder *self = (Recorder *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->vectorcall = recorder_call;
    self->ref = (PyTypeObject *)Py_NewRef(ref);
    self->stream = (Stream *)Py_NewRef(stream);
    self->type = number;
    self->fixed = fixed;
    self->grad = grad;
    PyObject **fields[] = {&self->positional, &self->names, &self->named, &self->homes, &self->ragged, &self->wrap,
                           &self->views, &self->memory, &self->otherwise, &self->still, &self->grad_enabled,
                           &self->autocast};
    for (int k = 0; k < 12; k++) *fields[k] = Py_NewRef(given[k]);
    if (take_questions(self) < 0 || check_views(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int recorder_traverse(Recorder *self, visitproc visit, void *arg) {
    Py_VISIT(self->ref);
    Py_VISIT(self->positional);
    Py_VISIT(self->named);
    Py_VISIT(self->homes);
    Py_VISIT(self->wrap);
    Py_VISIT(self->memory);
    Py_VISIT(self->otherwise);
    Py_VISIT(self->still);
    Py_VISIT(self->grad_enabled);
    Py_VISIT(self->autocast);
    return 0;
}

static int recorder_clear(Recorder *self) {
    /* What a call needs to see that it is not its own stays; so does what never leads back here. */
    Py_CLEAR(self->otherwise);
    Py_CLEAR(self->still);
    Py_CLEAR(self->homes);
    Py_CLEAR(self->wrap);
    return 0;
}

static void recorder_dealloc(Recorder *self) {
    PyObject_GC_UnTrack(self);
    recorder_clear(self);
    PyMem_Free(self->questions);
    Py_XDECREF(self->ref);
    Py_XDECREF(self->stream);
    Py_XDECREF(self->positional);
    Py_XDECREF(self->names);
    Py_XDECREF(self->named);
    Py_XDECREF(self->ragged);
    Py_XDECREF(self->views);
    Py_XDECREF(self->memory);
    Py_XDECREF(self->grad_enabled);
    Py_XDECREF(self->autocast);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject RecorderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bale.batching.trace._recording.Recorder",
    .tp_doc = "Records calls like the one it was made for, and hands all others to `otherwise`.",
    .tp_basicsize = sizeof(Recorder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = recorder_new,
    .tp_dealloc = (destructor)recorder_dealloc,
    .tp_traverse = (traverseproc)recorder_traverse,
    .tp_clear = (inquiry)recorder_clear,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Recorder, vectorcall),
};

/* ---- Gatherer: stacks and reductions of values that look alike ---- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyTypeObject *ref;
    Stream *stream;
    int stacks;
    PyObject *with_grad, *without_grad; /* home -> (number of the type, home of the result or homes by length) */
    PyObject *otherwise, *grad_enabled;
} Gatherer;

static int is_zero(PyObject *given) {
    int overflow;
    return PyLong_CheckExact(given) && PyLong_AsLongLongAndOverflow(given, &overflow) == 0 && !overflow;
}

/* The common home of the values that are gathered, borrowed, or NULL where this is no call for us. */
static PyObject *common_home(const Gatherer *self, PyObject *const *args, Py_ssize_t count) {
    PyObject *const *values = args;
    Py_ssize_t number = 1;
    if (count == 2 ? !is_zero(args[1]) : !self->stacks || count != 1) return NULL;
    if (self->stacks) {
        if (!PyList_CheckExact(args[0]) && !PyTuple_CheckExact(args[0])) return NULL;
        values = PySequence_Fast_ITEMS(args[0]);
        number = PySequence_Fast_GET_SIZE(args[0]);
    }
    if (!number) return NULL;
    PyObject *home = Py_TYPE(values[0]) == self->ref ? ((Value *)values[0])->home : NULL;
    for (Py_ssize_t k = 1; home && k < number; k++)
        if (Py_TYPE(values[k]) != self->ref || ((Value *)values[k])->home != home) return NULL;
    return home;
}

/* Write the node and make `value` its result; 0 where the length is new, -1 on error. No Python runs in here. */
static int gather(const Gatherer *self, PyObject *given, PyObject *known, Value *value) {
    PyObject *const *values = self->stacks ? PySequence_Fast_ITEMS(given) : &given;
    Py_ssize_t count = self->stacks ? PySequence_Fast_GET_SIZE(given) : 1;
    PyObject *home = PyTuple_GET_ITEM(known, 1);
    if (self->stacks) {
        PyObject *length = PyLong_FromSsize_t(count);
        if (!length) return -1;
        home = PyDict_Check(home) ? PyDict_GetItemWithError(home, length) : NULL;
        Py_DECREF(length);
        if (!home) return PyErr_Occurred() ? -1 : 0;
    }
    int64_t type = PyLong_AsLongLong(PyTuple_GET_ITEM(known, 0));
    if (type == -1 && PyErr_Occurred()) return -1;
    Stream *stream = self->stream;
    if (stream_reserve(stream, 3 + count) < 0) return -1;
    value->home = Py_NewRef(home);
    value->part = stream->size;
    int64_t *at = stream->numbers + stream->size;
    *at++ = type;
    *at++ = count; /* rows: of a stack as many as it has parts */
    *at++ = count;
    for (Py_ssize_t k = 0; k < count; k++) *at++ = ((Value *)values[k])->part;
    stream->size += 3 + count;
    return 1;
}

static PyObject *gatherer_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names) {
    Gatherer *self = (Gatherer *)Py_NewRef(callable);
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    PyObject *value = NULL;
    int found = 0;
    if (!names && count) {
        /* What could run Python comes first: asking for the grad mode, and an allocation that collects garbage. */
        int grad = is_true(self->grad_enabled);
        value = grad < 0 ? NULL : self->ref->tp_alloc(self->ref, 0);
        found = value ? 0 : -1;
        PyObject *home = value ? common_home(self, args, count) : NULL;
        if (home) {
            PyObject *known = PyDict_GetItemWithError(grad ? self->with_grad : self->without_grad, home);
            if (known && PyTuple_Check(known) && PyTuple_GET_SIZE(known) == 2)
                found = gather(self, args[0], known, (Value *)value);
            else if (PyErr_Occurred())
                found = -1;
        }
    }
    if (found <= 0) Py_CLEAR(value);
    if (found == 0) value = PyObject_Vectorcall(self->otherwise, args, count, names);
    Py_DECREF(self);
    return value;
}

static PyObject *gatherer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"ref", "stream", "stacks", "with_grad", "without_grad", "otherwise", "grad_enabled", NULL};
    PyObject *ref, *stream, *given[4];
    int stacks;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!pO!O!OO:Gatherer", names, &PyType_Type, &ref, &StreamType,
                                     &stream, &stacks, &PyDict_Type, &given[0], &PyDict_Type, &given[1], &given[2],
                                     &given[3]))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)ref, &ValueType)) {
        PyErr_SetString(PyExc_TypeError, "ref is not a Value");
        return NULL;
    }
    Gatherer *self = (Gatherer *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->vectorcall = gatherer_call;
    self->ref = (PyTypeObject *)Py_NewRef(ref);
    self->stream = (Stream *)Py_NewRef(stream);
    self->stacks = stacks;
    PyObject **fields[] = {&self->with_grad, &self->without_grad, &self->otherwise, &self->grad_enabled};
    for (int k = 0; k < 4; k++) *fields[k] = Py_NewRef(given[k]);
    return (PyObject *)self;
}

static int gatherer_traverse(Gatherer *self, visitproc visit, void *arg) {
    Py_VISIT(self->ref);
    Py_VISIT(self->with_grad);
    Py_VISIT(self->without_grad);
    Py_VISIT(self->otherwise);
    Py_VISIT(self->grad_enabled);
    return 0;
}

static void gatherer_dealloc(Gatherer *self) { /* no tp_clear: the dictionaries have their own */
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->ref);
    Py_XDECREF(self->stream);
    Py_XDECREF(self->with_grad);
    Py_XDECREF(self->without_grad);
    Py_XDECREF(self->otherwise);
    Py_XDECREF(self->grad_enabled);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject GathererType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bale.batching.trace._recording.Gatherer",
    .tp_doc = "Records stacks of values of one home, or reductions of one value, whose home is known.",
    .tp_basicsize = sizeof(Gatherer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = gatherer_new,
    .tp_dealloc = (destructor)gatherer_dealloc,
    .tp_traverse = (traverseproc)gatherer_traverse,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Gatherer, vectorcall),
};

/* ---- Reader: entries of whole numbers in tensors of no axes ---- */

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *tensor, *dtype, *guard; /* the class, the dtype, what keeps torch functions from Python */
    PyObject *shared, *indices;       /* dicts by id */
    PyObject *entries, *versions, *values;
} Reader;

static PyObject *str_dtype, *str_dim, *str_is_cpu, *str_item, *str_enter, *str_exit;

/* The number in `given`, None where it is not of the kind, NULL on error. */
static PyObject *read_number(const Reader *self, PyObject *given) {
    PyObject *found = PyObject_GetAttr(given, str_dtype);
    if (!found) return NULL;
    Py_DECREF(found);
    if (found != self->dtype) Py_RETURN_NONE;
    found = PyObject_CallMethodNoArgs(given, str_dim);
    if (!found) return NULL;
    long dim = PyLong_AsLong(found);
    Py_DECREF(found);
    if (dim) {
        if (dim == -1 && PyErr_Occurred()) return NULL;
        Py_RETURN_NONE;
    }
    found = PyObject_GetAttr(given, str_is_cpu);
    if (!found) return NULL;
    Py_DECREF(found);
    if (found != Py_True) Py_RETURN_NONE;
    return PyObject_CallMethodNoArgs(given, str_item);
}

static PyObject *note(const Reader *self, PyObject *key, PyObject *given, PyObject *value) {
    PyObject *entry = PyLong_FromSsize_t(PyList_GET_SIZE(self->entries)), *version = PyLong_FromLong(-1);
    if (!entry || !version || PyList_Append(self->entries, given) < 0 || PyList_Append(self->versions, version) < 0 ||
        PyList_Append(self->values, value) < 0 || PyDict_SetItem(self->indices, key, entry) < 0)
        Py_CLEAR(entry);
    Py_XDECREF(version);
    return entry;
}

static PyObject *reader_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names) {
    Reader *self = (Reader *)callable;
    if (PyVectorcall_NARGS(flags) != 1 || names) {
        PyErr_SetString(PyExc_TypeError, "a Reader takes one tensor");
        return NULL;
    }
    if ((PyObject *)Py_TYPE(args[0]) != self->tensor) Py_RETURN_NONE;
    PyObject *key = PyLong_FromVoidPtr(args[0]), *entry = NULL;
    if (!key) return NULL;
    int is_shared = PyDict_Contains(self->shared, key);
    if (is_shared > 0) entry = Py_NewRef(Py_None);
    if (is_shared == 0) {
        PyObject *entered = PyObject_CallMethodNoArgs(self->guard, str_enter), *value = NULL;
        if (entered) {
            PyObject *type, *error, *trace;
            value = read_number(self, args[0]);
            PyErr_Fetch(&type, &error, &trace); /* leave the guard in any case */
            PyObject *left = PyObject_CallMethodObjArgs(self->guard, str_exit, Py_None, Py_None, Py_None, NULL);
            if (!left) Py_CLEAR(value);
            if (type) PyErr_Restore(type, error, trace);
            Py_XDECREF(left);
            Py_DECREF(entered);
        }
        if (value) {
            entry = value == Py_None ? Py_NewRef(Py_None) : note(self, key, args[0], value);
            Py_DECREF(value);
        }
    }
    Py_DECREF(key);
    return entry;
}

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"tensor", "dtype", "guard", "shared", "indices", "entries", "versions", "values", NULL};
    PyObject *given[8];
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO!O!O!O!O!:Reader", names, &given[0], &given[1], &given[2],
                                     &PyDict_Type, &given[3], &PyDict_Type, &given[4], &PyList_Type, &given[5],
                                     &PyList_Type, &given[6], &PyList_Type, &given[7]))
        return NULL;
    Reader *self = (Reader *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->vectorcall = reader_call;
    PyObject **fields[] = {&self->tensor, &self->dtype, &self->guard, &self->shared,
                           &self->indices, &self->entries, &self->versions, &self->values};
    for (int k = 0; k < 8; k++) *fields[k] = Py_NewRef(given[k]);
    return (PyObject *)self;
}

static int reader_traverse(Reader *self, visitproc visit, void *arg) {
    Py_VISIT(self->tensor);
    Py_VISIT(self->dtype);
    Py_VISIT(self->guard);
    Py_VISIT(self->shared);
    Py_VISIT(self->indices);
    Py_VISIT(self->entries);
    Py_VISIT(self->versions);
    Py_VISIT(self->values);
    return 0;
}

static void reader_dealloc(Reader *self) { /* no tp_clear: none of what it holds refers back to it */
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->tensor);
    Py_XDECREF(self->dtype);
    Py_XDECREF(self->guard);
    Py_XDECREF(self->shared);
    Py_XDECREF(self->indices);
    Py_XDECREF(self->entries);
    Py_XDECREF(self->versions);
    Py_XDECREF(self->values);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject ReaderType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bale.batching.trace._recording.Reader",
    .tp_doc = "Gives tensors of no axes that hold whole numbers their entries among the constants.",
    .tp_basicsize = sizeof(Reader),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = reader_new,
    .tp_dealloc = (destructor)reader_dealloc,
    .tp_traverse = (traverseproc)reader_traverse,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Reader, vectorcall),
};

/* ---- Method and Switch: from a method of a value, or a torch function called with one, to its recorder ---- */

static PyObject *str_trace, *str_quick, *str_functions, *str_self;

/* What records calls of `function` in the trace, a new reference; NULL without an error where it is not to be asked. */
static PyObject *recorder_of(PyObject *trace, PyObject *function) {
    PyObject *quick = PyObject_GetAttr(trace, str_quick);
    if (!quick) return NULL;
    Py_DECREF(quick);
    if (quick != Py_True) return NULL;
    PyObject *functions = PyObject_GetAttr(trace, str_functions);
    if (!functions) return NULL;
    PyObject *recorder = PyDict_Check(functions) ? PyDict_GetItemWithError(functions, function) : NULL;
    Py_XINCREF(recorder);
    Py_DECREF(functions);
    return recorder;
}

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *function, *otherwise;
} Method;

static PyObject *method_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names) {
    Method *self = (Method *)callable;
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (count && PyObject_TypeCheck(args[0], &ValueType) && ((Value *)args[0])->home) {
        PyObject *home = Py_NewRef(((Value *)args[0])->home), *trace = PyObject_GetAttr(home, str_trace);
        Py_DECREF(home);
        PyObject *recorder = trace ? recorder_of(trace, self->function) : NULL;
        Py_XDECREF(trace);
        if (recorder) {
            PyObject *result = PyObject_Vectorcall(recorder, args, count, names);
            Py_DECREF(recorder);
            return result;
        }
        if (PyErr_Occurred()) return NULL;
    }
    return PyObject_Vectorcall(self->otherwise, args, count, names);
}

static PyObject *method_get(PyObject *self, PyObject *object, PyObject *type) {
    return object && object != Py_None ? PyMethod_New(self, object) : Py_NewRef(self);
}

static PyObject *method_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"function", "otherwise", NULL};
    PyObject *function, *otherwise;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:Method", names, &function, &otherwise)) return NULL;
    Method *self = (Method *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->vectorcall = method_call;
    self->function = Py_NewRef(function);
    self->otherwise = Py_NewRef(otherwise);
    return (PyObject *)self;
}

static int method_traverse(Method *self, visitproc visit, void *arg) {
    Py_VISIT(self->function);
    Py_VISIT(self->otherwise);
    return 0;
}

static void method_dealloc(Method *self) { /* no tp_clear: what is held is a function of torch, and one of a class */
    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->function);
    Py_XDECREF(self->otherwise);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject MethodType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bale.batching.trace._recording.Method",
    .tp_doc = "A method of values: asks the recorder of its function in their trace, or otherwise.",
    .tp_basicsize = sizeof(Method),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR,
    .tp_new = method_new,
    .tp_dealloc = (destructor)method_dealloc,
    .tp_traverse = (traverseproc)method_traverse,
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = method_get,
    .tp_vectorcall_offset = offsetof(Method, vectorcall),
};

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *ref, *trace, *otherwise;
} Switch;

static int has_ref(PyObject *types, PyObject *ref) {
    if (!PyTuple_CheckExact(types)) return 0;
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(types); k++)
        if (PyTuple_GET_ITEM(types, k) == ref) return 1;
    return 0;
}

/* As a mode's __torch_function__(function, types, args, kwargs), which torch calls so, or without the last. */
static PyObject *switch_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names) {
    Switch *self = (Switch *)Py_NewRef(callable);
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    PyObject *result = NULL, *recorder = NULL;
    int is_plain = !names && (count == 3 || count == 4) && PyTuple_CheckExact(args[2]);
    if (is_plain && self->trace && has_ref(args[1], self->ref)) {
        recorder = recorder_of(self->trace, args[0]);
        if (!recorder && PyErr_Occurred()) goto done;
    }
    if (!recorder)
        result = PyObject_Vectorcall(self->otherwise, args, count, names);
    else if (count == 4 && PyDict_CheckExact(args[3]) && PyDict_GET_SIZE(args[3]))
        result = PyObject_Call(recorder, args[2], args[3]);
    else
        result = PyObject_Vectorcall(recorder, &PyTuple_GET_ITEM(args[2], 0), PyTuple_GET_SIZE(args[2]), NULL);
done:
    Py_XDECREF(recorder);
    Py_DECREF(self);
    return result;
}

static PyObject *switch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"ref", "trace", "otherwise", NULL};
    PyObject *ref, *trace, *otherwise;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:Switch", names, &ref, &trace, &otherwise)) return NULL;
    Switch *self = (Switch *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->vectorcall = switch_call;
    self->ref = Py_NewRef(ref);
    self->trace = Py_NewRef(trace);
    self->otherwise = Py_NewRef(otherwise);
    return (PyObject *)self;
}

static int switch_traverse(Switch *self, visitproc visit, void *arg) {
    Py_VISIT(self->ref);
    Py_VISIT(self->trace);
    Py_VISIT(self->otherwise);
    return 0;
}

static int switch_clear(Switch *self) {
    /* `otherwise` stays: a call must not find nothing, and the dictionary of the mode breaks that cycle. */
    Py_CLEAR(self->trace);
    return 0;
}

static void switch_dealloc(Switch *self) {
    PyObject_GC_UnTrack(self);
    switch_clear(self);
    Py_XDECREF(self->ref);
    Py_XDECREF(self->otherwise);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Torch makes sure that it is the mode's own method. */
static PyObject *switch_self(Switch *self, void *nothing) { return PyObject_GetAttr(self->otherwise, str_self); }

static PyGetSetDef switch_getset[] = {{"__self__", (getter)switch_self, NULL, "The mode.", NULL}, {NULL}};

static PyTypeObject SwitchType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "bale.batching.trace._recording.Switch",
    .tp_doc = "The __torch_function__ of a mode: asks the recorder of a function called with values, or otherwise.",
    .tp_basicsize = sizeof(Switch),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_new = switch_new,
    .tp_dealloc = (destructor)switch_dealloc,
    .tp_traverse = (traverseproc)switch_traverse,
    .tp_clear = (inquiry)switch_clear,
    .tp_getset = switch_getset,
    .tp_call = PyVectorcall_Call,
    .tp_vectorcall_offset = offsetof(Switch, vectorcall),
};

static PyMethodDef functions[] = {
    {"rows_from", (PyCFunction)(void (*)(void))rows_from, METH_FASTCALL,
     "rows_from(first, count, step): `first` and more like it, each a step further in the stream's codes."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "bale.batching.trace._recording",
    .m_doc = "Stream, Value, Recorder, Gatherer, Reader, Method and Switch in C; see recording.py.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__recording(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module) return NULL;
    struct {
        PyObject **name;
        const char *text;
    } names[] = {{&str_spec, "spec"},     {&str_length, "length"}, {&str_dtype, "dtype"},     {&str_dim, "dim"},
                 {&str_is_cpu, "is_cpu"}, {&str_item, "item"},     {&str_enter, "__enter__"}, {&str_exit, "__exit__"},
                 {&str_trace, "trace"},   {&str_quick, "quick"},   {&str_functions, "functions"},
                 {&str_self, "__self__"}};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (!(*names[k].name = PyUnicode_InternFromString(names[k].text))) goto failed;
    PyTypeObject *types[] = {&StreamType, &ValueType,  &RecorderType, &GathererType,
                             &ReaderType, &MethodType, &SwitchType};
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        if (PyModule_AddType(module, types[k]) < 0) goto failed;
    return module;
failed:
    Py_DECREF(module);
    return NULL;
}
