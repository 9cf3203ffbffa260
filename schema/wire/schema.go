// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
)

// Numbers from Arrow's Schema.fbs.
const (
	// Fields of the table Schema.
	schemaEndianness = 0
	schemaFields     = 1

	// Fields of the table Field.
	fieldName       = 0
	fieldTypeType   = 2
	fieldType       = 3
	fieldDictionary = 4

	// Values of the union Type.
	typeInt           = 2
	typeFloatingPoint = 3
	typeText          = 5
	typeTimestamp     = 10

	precisionDouble = 2
)

// CheckSchema compares an Arrow schema message, as any Flight client may write it, with the schema of a
// table: the same columns by name and type, in the same order. It reads no more of a foreign message
// than the table has columns, and allocates nothing for it but an error. Whether a column may be NULL
// is not compared: that is held against each batch. Every error is an ErrMalformed.
func CheckSchema(message []byte, want *arrow.Schema) error {
	r := flatReader{bytes: message}
	table := r.messageHeader(r.root(), headerSchema)
	if endianness := r.number(table, schemaEndianness, 2); endianness != 0 {
		r.refuse("endianness %d, want 0 (little)", endianness)
	}
	fields := r.reference(table, schemaFields)
	count := int64(r.unsigned(fields, 4))
	if int(count) != want.NumFields() {
		r.refuse("%d columns, want %d", count, want.NumFields())
	}
	for i, field := range want.Fields() {
		if r.err != nil {
			break
		}
		at := fields + 4 + 4*int64(i)
		r.checkField(r.table(at+int64(r.unsigned(at, 4))), i, field)
	}
	return r.err
}

// checkField compares one column.
func (r *flatReader) checkField(t flatTable, i int, want arrow.Field) {
	if name := r.text(t, fieldName); string(name) != want.Name {
		r.refuse("column %d is %.64q, want %q", i, name, want.Name)
	}
	if r.slot(t, fieldDictionary, 4) != 0 {
		r.refuse("column %s is dictionary-encoded, want %v", want.Name, want.Type)
	}
	if got := r.typeName(r.number(t, fieldTypeType, 1), r.table(r.reference(t, fieldType))); got != typeName(want.Type) {
		r.refuse("column %s is of type %s, want %s", want.Name, got, typeName(want.Type))
	}
}

// typeName names the type of a column in a message, in typeName's words.
func (r *flatReader) typeName(kind int64, t flatTable) string {
	switch kind {
	case typeInt:
		if r.number(t, 1, 1) != 0 {
			return fmt.Sprintf("int%d", r.number(t, 0, 4))
		}
		return fmt.Sprintf("uint%d", r.number(t, 0, 4))
	case typeFloatingPoint:
		if r.number(t, 0, 2) == precisionDouble {
			return "float64"
		}
		return "a shorter float"
	case typeText:
		return "utf8"
	case typeTimestamp:
		return fmt.Sprintf("timestamp[%d, %.64q]", r.number(t, 0, 2), r.text(t, 1))
	default:
		return fmt.Sprintf("number %d", kind)
	}
}

// typeName names an Arrow type such that equal names are equal types.
func typeName(t arrow.DataType) string {
	if t, ok := t.(*arrow.TimestampType); ok {
		return fmt.Sprintf("timestamp[%d, %q]", int(t.Unit), t.TimeZone) // units count as in Schema.fbs
	}
	return t.Name()
}
