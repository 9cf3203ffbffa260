// SPDX-License-Identifier: Apache-2.0

package hardware

import (
	"embed"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shopspring/decimal"
)

// The catalogue lies in five files, each a CSV file with a header, in which lines that begin with # are comments:
//
//	sources.csv    source,read_on,what
//	models.csv     model,architecture,memory_gigabytes
//	figures.csv    model,figure,value,source,verified
//	spellings.csv  model,spelling,used_by
//	instances.csv  provider,instance_type,model,gpus,…,source,verified,unusable
//
// They are part of the program, and a test reads them: a row that cannot be read is a mistake of ours.
//
//go:embed data/*.csv
var files embed.FS

type instanceKey struct{ provider, lowerType string }

type catalogue struct {
	models    []Model
	instances []Instance
	byType    map[instanceKey]Instance
	providers map[string]int // how many types each has
}

var loaded = sync.OnceValue(func() catalogue {
	c, err := load()
	if err != nil {
		panic(fmt.Sprintf("hardware: the catalogue that is part of the program: %v", err))
	}
	return c
})

func load() (catalogue, error) {
	c := catalogue{byType: make(map[instanceKey]Instance), providers: make(map[string]int)}
	sources := make(map[string]Source)
	for _, step := range []struct {
		file string
		read func(row []string) error
	}{
		{"sources", func(row []string) error { return readSource(sources, row) }},
		{"models", c.readModel},
		{"figures", func(row []string) error { return c.readFigure(sources, row) }},
		{"spellings", c.readSpelling},
		{"instances", func(row []string) error { return c.readInstance(sources, row) }},
	} {
		rows, err := readRows(step.file)
		if err != nil {
			return c, err
		}
		for _, row := range rows {
			if err := step.read(row); err != nil {
				return c, fmt.Errorf("%s.csv: %s: %w", step.file, strings.Join(row, ","), err)
			}
		}
	}
	return c, nil
}

// readRows is a file without its header. Every row has as many cells as that.
func readRows(name string) ([][]string, error) {
	file, err := files.Open("data/" + name + ".csv")
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it is part of the program
	reader := csv.NewReader(file)
	reader.Comment = '#'
	rows, err := reader.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s.csv: %w", name, err)
	}
	return rows[1:], nil
}

func readSource(sources map[string]Source, row []string) error {
	day, err := time.Parse(time.DateOnly, row[1])
	sources[row[0]] = Source{Name: row[0], ReadOn: day, What: row[2]}
	return err
}

func (c *catalogue) readModel(row []string) error {
	memory, err := strconv.Atoi(row[2])
	c.models = append(c.models, Model{Name: row[0], Architecture: row[1], MemoryGigabytes: memory})
	return err
}

func (c *catalogue) model(name string) (*Model, error) {
	i := slices.IndexFunc(c.models, func(m Model) bool { return m.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no model %q", name)
	}
	return &c.models[i], nil
}

func (c *catalogue) readFigure(sources map[string]Source, row []string) error {
	m, err := c.model(row[0])
	if err != nil {
		return err
	}
	value, err := decimal.NewFromString(row[2])
	if err != nil {
		return err
	}
	source, known := sources[row[3]]
	if name := FigureName(row[1]); !known || !slices.Contains(figureNames, name) {
		return fmt.Errorf("source %q or figure %q is not known", row[3], name)
	}
	m.Figures = append(m.Figures, Figure{FigureName(row[1]), value, source, row[4] == "yes"})
	return nil
}

func (c *catalogue) readSpelling(row []string) error {
	m, err := c.model(row[0])
	if err != nil {
		return err
	}
	m.Spellings = append(m.Spellings, Spelling{row[1], row[2]})
	return nil
}

func (c *catalogue) readInstance(sources map[string]Source, row []string) error {
	var numbers [5]int
	for i := range numbers {
		if row[3+i] == "" {
			continue
		}
		n, err := strconv.Atoi(row[3+i])
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	source, known := sources[row[8]]
	if !known {
		return fmt.Errorf("source %q is not known", row[8])
	}
	instance := Instance{
		Provider: row[0], Type: row[1], Model: row[2], GPUs: numbers[0], NetworkGigabitsPerSecond: numbers[1], DomainGPUs: numbers[2],
		VCPUs: numbers[3], MemoryGibibytes: numbers[4], Source: source, Verified: row[9] == "yes", Unusable: Unusable(row[10]),
	}
	k := instanceKey{instance.Provider, strings.ToLower(instance.Type)}
	if _, twice := c.byType[k]; twice {
		return errors.New("it is there twice")
	}
	c.instances = append(c.instances, instance)
	c.byType[k] = instance
	c.providers[instance.Provider]++
	return nil
}
