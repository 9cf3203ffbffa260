// SPDX-License-Identifier: Apache-2.0

package wire

// message is what counts in the header of an Arrow record batch message. The rest of it (custom
// metadata) is not read.
type message struct {
	rows      int64
	bodyBytes int64
	nodes     []byte // per column, nodeBytes each: length int64, null count int64
	buffers   []byte // per buffer, bufferBytes each: offset in the body int64, length int64
}

const (
	nodeBytes   = 16
	bufferBytes = 16
)

// Numbers from Arrow's Message.fbs.
const (
	metadataVersion5  = 4
	headerSchema      = 1
	headerRecordBatch = 3

	// Fields of the table Message.
	messageVersion    = 0
	messageHeaderType = 1
	messageHeader     = 2
	messageBodyLength = 3

	// Fields of the table RecordBatch.
	batchLength      = 0
	batchNodes       = 1
	batchBuffers     = 2
	batchCompression = 3
)

// parseMessage reads the header of a record batch message, a flatbuffer. It allocates nothing. What
// it returns lies in b.
func parseMessage(b []byte) (message, error) {
	r := flatReader{bytes: b}
	root := r.root()
	m := message{bodyBytes: r.number(root, messageBodyLength, 8)}
	batch := r.messageHeader(root, headerRecordBatch)
	m.rows = r.number(batch, batchLength, 8)
	if r.slot(batch, batchCompression, 4) != 0 {
		r.refuse("compressed arrow buffers: compress the whole frame instead (codec %d)", Zstd)
	}
	m.nodes = r.vector(r.reference(batch, batchNodes), nodeBytes)
	m.buffers = r.vector(r.reference(batch, batchBuffers), bufferBytes)
	return m, r.err
}

// messageHeader is the table that a message is about, which must be of the kind.
func (r *flatReader) messageHeader(root flatTable, kind int64) flatTable {
	if version := r.number(root, messageVersion, 2); version != metadataVersion5 {
		r.refuse("arrow metadata version %d, want %d (V5)", version, metadataVersion5)
	}
	if got := r.number(root, messageHeaderType, 1); got != kind {
		r.refuse("arrow message of type %d, want %d (1 is a schema, 3 a record batch)", got, kind)
	}
	return r.table(r.reference(root, messageHeader))
}
